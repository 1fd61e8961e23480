"""The files of the audit log, compared again and again with what this process knows them to hold.

Size and times of a file can be set back, so the file that is being written is read again. One that was rotated away is
read again only when its stamp changes, since the time of its last status change cannot be set back by its owner.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from model_under_test.serve.chain import BLOCK, Walked, stamp

LOOK_AGAIN_SECONDS = 5.0
BLOCKS_AT_ONCE = 32  # MiB that one call reads at most; a larger file takes several calls
CHANGED = "the audit log was changed by somebody else"
_DONE = object()


@dataclass(frozen=True, slots=True)
class _Aside:
    """A file that was rotated away: SHA-256, and the stamp it had when that was taken; None before its first look."""

    digest: str
    stamp: tuple[int, ...] | None


class Held:
    """What the files of one log hold. Safe to use from many threads."""

    trouble: str | None = None

    def __init__(self, file: int, current: Walked, aside: dict[Path, Walked]) -> None:
        """Begin with what was read at the start.

        Args:
            file: descriptor of the file that is being written; the caller closes it.
            current: what it holds.
            aside: what the files hold that were rotated away.
        """
        self._file, self.size, self._content = file, current.size, current.content
        self._aside = {path: _Aside(one.content.hexdigest(), one.stamp) for path, one in aside.items()}
        self._mutex, self._looking = threading.Lock(), threading.Lock()
        self._look: Generator[None, None, None] | None = None
        self._again = float("-inf")

    def wrote(self, line: bytes) -> None:
        """Take note of a line that was appended."""
        with self._mutex:
            self._content.update(line)
            self.size += len(line)

    def rotated(self, aside: Path, fresh: int) -> None:
        """Take note that the file is now called ``aside``, and that an empty one is written in its place."""
        with self._mutex:
            self._aside[aside] = _Aside(self._content.hexdigest(), None)
            self._file, self.size, self._content = fresh, 0, hashlib.sha256()

    def look(self, now: float) -> None:
        """Compare, when it is time to; sets ``trouble`` when all has been compared.

        Args:
            now: monotonic seconds.
        """
        if not self._looking.acquire(blocking=False):
            return  # somebody is at it
        try:
            if self._look is None:
                if now < self._again:
                    return
                self._look = self._compare()
            for _ in range(BLOCKS_AT_ONCE):
                if next(self._look, _DONE) is _DONE:
                    self._look, self._again = None, now + LOOK_AGAIN_SECONDS
                    return
        finally:
            self._looking.release()

    def close(self) -> None:
        """Leave off looking."""
        with self._looking:
            if self._look is not None:
                self._look.close()
            self._look, self._again = None, float("inf")

    def _compare(self) -> Generator[None, None, None]:
        """Compare all files with what is known, yielding after each block; locked only while that is copied."""
        found = None
        with self._mutex:
            file, size, content, aside = os.dup(self._file), self.size, self._content.copy(), dict(self._aside)
        try:
            if (yield from _digest(file, size)) != content.hexdigest():
                found = CHANGED
        finally:
            os.close(file)
        for path, known in aside.items():
            if not (yield from self._same(path, known)):
                found = f"{path.name}, a full file of the audit log, was changed or removed by somebody else"
        self.trouble = found

    def _same(self, path: Path, known: _Aside) -> Generator[None, None, bool]:
        try:
            if stamp(path.stat()) == known.stamp:
                return True
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(file)
                same = (yield from _digest(file, status.st_size)) == known.digest
            finally:
                os.close(file)
        except OSError:
            return False
        if same:
            with self._mutex:
                self._aside[path] = _Aside(known.digest, stamp(status))
        return same


def _digest(file: int, size: int) -> Generator[None, None, str]:
    """Return the SHA-256 of the first ``size`` bytes of a file, or of all there are; yields after each block."""
    content, at = hashlib.sha256(), 0
    while block := os.pread(file, min(BLOCK, size - at), at):
        content.update(block)
        at += len(block)
        yield
    return content.hexdigest()
