"""What a process and its descendants use, where the system tells (Linux, /proc); None elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
FORGET_THE_PEAK = "5"  # written to clear_refs: proc(5)


class Usage:
    """Memory and time of one process and whatever it started."""

    def __init__(self, pid: int, proc: Path = PROC) -> None:
        """Look at nothing yet."""
        self._pid, self._proc = pid, proc

    def seconds(self) -> float | None:
        """Return the time that processors have spent on it."""
        ticks = [sum(map(int, fields[11:13])) for fields in self._stats()]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None

    def resident(self) -> int | None:
        """Return the bytes that are in memory now."""
        return self._bytes("VmRSS")

    def peak(self) -> int | None:
        """Return the most bytes that were in memory since :meth:`forget_peak`, or since the start."""
        return self._bytes("VmHWM")

    def forget_peak(self) -> None:
        """Have the peak begin again at what is in memory now; where that is not allowed it stays."""
        for pid in self._tree():
            with suppress(OSError):
                (self._proc / str(pid) / "clear_refs").write_text(FORGET_THE_PEAK, encoding="ascii")

    def _bytes(self, name: str) -> int | None:
        found = []
        for pid in self._tree():
            with suppress(OSError):
                lines = (self._proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
                found += [1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
        return sum(found) if found else None

    def _stats(self) -> Iterator[list[str]]:
        for pid in self._tree():
            if fields := self._stat(pid):
                yield fields

    def _tree(self) -> list[int]:
        """Return the process and its descendants."""
        known, parents = [self._pid], dict[int, int]()
        with suppress(OSError):
            for folder in self._proc.iterdir():
                if folder.name.isdecimal() and (fields := self._stat(int(folder.name))):
                    parents[int(folder.name)] = int(fields[1])
        for pid in known:  # grows meanwhile
            known += [child for child, parent in parents.items() if parent == pid]
        return known

    def _stat(self, pid: int) -> list[str]:
        """Return the fields of a process behind its name, which may hold anything; none where it is gone."""
        with suppress(OSError):
            return (
                (self._proc / str(pid) / "stat")
                .read_text(encoding="utf-8", errors="replace")
                .rpartition(")")[2]
                .split()
            )
        return []
