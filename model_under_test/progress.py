"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

PLAIN_LINE_EVERY_SECONDS = 20.0


class Progress:
    """Counts steps of a known total and shows figures beside them, on standard error."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        """Start at ``done`` of ``total`` steps."""
        self._label, self._total, self._done = label, total, done
        self._first, self._begun, self._shown = done, time.monotonic(), time.monotonic()
        self._bar = tqdm(total=total, initial=done, desc=label, unit="step") if sys.stderr.isatty() else None

    def step(self, **figures: float) -> None:
        """Count one step; ``figures`` are shown with three decimals."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._shown >= PLAIN_LINE_EVERY_SECONDS or self._done == self._total:
            self._shown = time.monotonic()
            self._plain(figures)

    def _plain(self, figures: dict[str, float]) -> None:
        rate = (time.monotonic() - self._begun) / (self._done - self._first)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        remaining = rate * (self._total - self._done)
        sys.stderr.write(f"{self._label}: {self._done}/{self._total} steps, {shown}, {remaining:.0f} s left\n")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        """Return the progress itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar, whatever happened."""
        if self._bar is not None:
            self._bar.close()
