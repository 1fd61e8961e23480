"""How long the steps of the last run of a kind took, kept beside the store: what the next run tells its user to expect.

Nothing is decided by it, and nothing but the terminal shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from audit.files import write_atomically

WORTH_TELLING_SECONDS = 10.0


class Durations:
    """The durations of one kind of run (policy, target, profile, device), by step."""

    def __init__(self, path: Path, kind: str) -> None:
        """Read what is there; a file that cannot be read is as good as none."""
        self._path, self._kind = path, kind
        try:
            self._last = {str(name): float(seconds) for name, seconds in self._read()[kind].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            self._last = {}

    def expected(self, steps: Iterable[str]) -> float | None:
        """Return how long these steps took together; None where one of them is not known."""
        found = [self._last.get(name) for name in steps]
        known = [one for one in found if one is not None]
        return sum(known) if known and len(known) == len(found) else None

    def keep(self, taken: Mapping[str, float]) -> None:
        """Remember how long the steps of this run took; those it did not have stay as they were."""
        everything = self._read()  # again: another audit may have written meanwhile
        everything[self._kind] = self._last | {name: round(seconds, 2) for name, seconds in taken.items()}
        write_atomically(self._path, (json.dumps(everything, indent=1, sort_keys=True) + "\n").encode())

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def spoken(seconds: float) -> str:
    """Write a duration as one says it: ``8 s``, ``2 min 50 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
