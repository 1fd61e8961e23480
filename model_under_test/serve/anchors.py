"""Anchors: ends of the chain of an audit log, noted in a file of their own while it is written.

A chain without a key cannot tell that its end was cut off, nor that its tail was written anew up to the very end. An
anchor tells, for everything up to it, as long as nobody changes both files alike: so the best place for this one is
where whoever can write the log cannot write it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from model_under_test.errors import ServingError
from model_under_test.serve import appending, chain
from model_under_test.serve.chain import Link

WHAT = "the file of anchors"
_LINE = re.compile(rb'\{"hash":"([0-9a-f]{64})","seq":([1-9][0-9]{0,17}),"time":"[0-9TZ:.-]{1,40}"\}\n')
_LONGEST = 2**10


def beside(log: Path) -> Path:
    """Return where the anchors of a log are unless they are kept elsewhere."""
    return log.with_name(f"{log.name}.anchors")


def read(path: Path) -> list[Link]:
    """Read a file of anchors, the oldest first. A last line without an end, left by a loss of power, is none.

    Raises:
        ServingError: missing, or not a file of anchors.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ServingError(f"{path}: expected a file of anchors, got {error.strerror}") from error
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    found = [chain.START]
    for number, line in enumerate(lines, 1):
        fields = _LINE.fullmatch(line)
        if fields is None or int(fields[2]) <= found[-1].seq:
            raise ServingError(f"{path}: line {number}: expected an anchor later than the one before it; it was edited")
        found.append(Link(int(fields[2]), fields[1].decode()))
    return found[1:]


def known(path: Path) -> list[Link]:
    """Return the anchors of a file; none where there is no file.

    Raises:
        ServingError: it is not a file of anchors.
    """
    return read(path) if path.exists() or path.is_symlink() else []


def _now() -> datetime:
    return datetime.now(UTC)


class Anchors:
    """The file of anchors of a log that is being written; used from one thread at a time."""

    def __init__(self, path: Path, every: float, clock: Callable[[], datetime] = _now) -> None:
        """Open the file for this process; it is made with mode 0600 where there is none.

        Args:
            path: the file; its folder is made.
            every: seconds between two anchors, at most.
            clock: the time of day, in UTC.

        Raises:
            ServingError: another process writes it, it is not a file of anchors, or it cannot be written.
        """
        self._path, self._every, self._clock = path, every, clock
        self._noted_at, self._rotated = float("-inf"), 0
        self._reason: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = appending.opened(path)
        except OSError as error:
            raise ServingError(f"{path}: anchors cannot be written: {error.strerror}") from error
        try:
            self._take()
        except OSError as error:
            os.close(self._file)
            raise ServingError(f"{path}: anchors cannot be written: {error.strerror}") from error
        except ServingError:
            os.close(self._file)
            raise

    def due(self, now: float, rotated: int = 0) -> bool:
        """Tell whether it is time for an anchor.

        Args:
            now: monotonic seconds.
            rotated: how many files were rotated away from the log; one more makes it time.
        """
        return now - self._noted_at >= self._every or rotated > self._rotated

    def note(self, link: Link, now: float, rotated: int = 0) -> None:
        """Note where the chain stands, unless it has not moved. What cannot be noted is told by :meth:`trouble`.

        Args:
            link: the end of the chain; the disk should hold it already, or a loss of power looks like a cut-off end.
            now: monotonic seconds.
            rotated: how many files were rotated away from the log.
        """
        try:
            self._hold()
            if link.seq > self._last.seq:
                self._write(link)
            self._noted_at, self._rotated, self._reason = now, max(rotated, self._rotated), None
        except OSError as error:
            self._reason = error.strerror or f"{WHAT} cannot be written"

    def trouble(self) -> str | None:
        """Say why anchors are not noted; None while they are."""
        if self._reason is None:
            try:
                self._hold()
            except OSError as error:
                return error.strerror or f"{WHAT} cannot be written"
        return self._reason

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _take(self) -> None:
        """Lock the file, cut off a last line without an end, and find out what was noted last."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingError(f"{self._path}: another server notes anchors here; give each its own file") from error
        if torn := appending.torn(self._file, _LONGEST):
            os.ftruncate(self._file, os.fstat(self._file).st_size - len(torn))
        self._size = os.fstat(self._file).st_size
        self._last = next(reversed(read(self._path)), chain.START)

    def _hold(self) -> None:
        appending.still_ours(self._file, self._path, self._size, WHAT)

    def _write(self, link: Link) -> None:
        time = self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = chain.canonical({"time": time, "seq": link.seq, "hash": link.hash}) + b"\n"
        appending.write(self._file, line, self._size, fsync=True, what=WHAT)
        self._size, self._last = self._size + len(line), link
