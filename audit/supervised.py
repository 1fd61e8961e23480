"""The child's side of ``python -m audit run``: pytest, which tells its parent where the record of this run lies."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

from audit.workers import die_with

TOGETHER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Supervision:
    """The name that the parent gave this run, and the file in which it looks for the place of the record."""

    run: str
    answer: Path

    @classmethod
    def of(cls, config: pytest.Config) -> Supervision | None:
        """Return what supervises this pytest run; None where it was started as plain pytest."""
        return next((one for one in config.pluginmanager.get_plugins() if isinstance(one, cls)), None)

    def tell(self, folder: Path) -> None:
        """Say where the finished report of this run lies."""
        self.answer.write_text(json.dumps({"run": self.run, "folder": str(folder)}), encoding="utf-8")


class _Interrupt:
    """Makes one KeyboardInterrupt of signals that come together: one to the process group also comes by the parent."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last > TOGETHER_SECONDS:
            self._last = now
            raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run pytest on the suite, and die with the parent; returns pytest's exit code.

    Args:
        arguments: the parent's process number, the file for the answer, the name of the run, and then the options.
    """
    parent, answer, run, *options = arguments
    die_with(int(parent))
    interrupt = _Interrupt()
    for one in (signal.SIGINT, signal.SIGTERM):  # both end it like Ctrl-C, so that nothing half-written stays
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the parent waits for signals with all of them blocked
    return int(pytest.main(["tests", *options], plugins=[Supervision(run, Path(answer))]))
