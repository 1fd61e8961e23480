"""Progress of measurements: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

PLAIN_LINE_EVERY_SECONDS = 15.0


class Ticker:
    """Called with (done, total) after every piece of work."""

    def __init__(self, terminal: TextIO | None, write: Callable[[str], None]) -> None:
        """Draw a bar on ``terminal``, or without one pass lines to ``write``."""
        self._terminal, self._write = terminal, write
        self._bar: Any = None
        self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done: samples of an attack, steps of a search, classes."""
        if self._terminal is not None:
            self._draw(done, total, self._terminal)
        elif time.monotonic() - self._shown >= PLAIN_LINE_EVERY_SECONDS:
            self._shown = time.monotonic()
            self._write(f"{done:,} of {total:,} done")

    def _draw(self, done: int, total: int, terminal: TextIO) -> None:
        if self._bar is None:
            tqdm.monitor_interval = 0  # its thread would be one too many for processes that are forked
            self._bar = tqdm(total=total, file=terminal, leave=False, desc="measuring")
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None
