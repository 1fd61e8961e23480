"""The audit log: one line for every answered prediction request, with the operating system before the answer leaves.

What can be lost: nothing that was answered when the process is killed (at most a torn last line, of a request that
never got its answer); with power, what the operating system had not written yet, unless ``fsync`` waits for the disk.
When a line cannot be written, nothing is predicted: the refusals are remembered, and written first when it works again.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from model_under_test.errors import ServingError
from model_under_test.serve import chain
from model_under_test.serve.chain import START, Broken, Link

MOST_REMEMBERED = 1_000


class LogUnavailable(Exception):
    """The record could not be written; the answer must not leave."""


class AuditLog:
    """One file, one writer, appended to under a lock."""

    def __init__(self, path: Path, *, rotate_at: int, fsync: bool = False) -> None:
        """Take the log for this process, heal a torn last line and verify the file.

        Args:
            path: the log; its folder is made.
            rotate_at: size in bytes beyond which the file is renamed to ``path.NNNNNN`` and a new one begun.
            fsync: wait for the disk after each line.

        Raises:
            ServingError: another process writes it, it was tampered with, or it cannot be written.
        """
        self._path, self._rotate_at, self._fsync = path, rotate_at, fsync
        self._mutex = threading.Lock()
        self._remembered: deque[dict[str, Any]] = deque()
        self._reason: str | None = None
        self.forgotten = 0
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock = _take(path)
                undo.callback(os.close, self._lock)
                self._file = _open(path)
                undo.callback(os.close, self._file)
                _heal(path, self._file)
                self._end, self._rotated = _continue(path)
                self._size = os.fstat(self._file).st_size
            except OSError as error:
                raise ServingError(f"{path}: the audit log cannot be written: {error.strerror}") from error
            except Broken as error:
                raise ServingError(f"{error}; keep the file as evidence, and start with another --log") from error
            undo.pop_all()

    @property
    def end(self) -> Link:
        """Say where the chain stands: the number of records, and the last hash."""
        return self._end

    def append(self, fields: dict[str, Any]) -> None:
        """Write one record (every key of the contract but seq, previous and hash).

        Raises:
            LogUnavailable: it is not in the file; it is remembered as a refusal (status 503, no class).
        """
        with self._mutex:
            try:
                self._catch_up()
                self._write(fields)
                self._reason = None
            except OSError as error:
                self._remember({**fields, "class": None, "status": 503})
                self._reason = error.strerror or "changed by somebody else"
                raise LogUnavailable(self._reason) from error

    def trouble(self) -> str | None:
        """Say why records cannot be written; None while they can. Tries again what could not be written before."""
        with self._mutex:
            try:
                self._hold()
                self._catch_up()
                self._reason = None
            except OSError as error:
                self._reason = error.strerror or "changed by somebody else"
            return self._reason

    def close(self) -> None:
        """Give the log back."""
        with self._mutex:
            os.close(self._file)
            os.close(self._lock)

    def _remember(self, fields: dict[str, Any]) -> None:
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered.append(fields)
        else:
            self.forgotten += 1

    def _catch_up(self) -> None:
        while self._remembered:
            self._write(self._remembered[0])
            self._remembered.popleft()

    def _hold(self) -> None:
        """See that the file is where we left it, and as long."""
        ours, there = os.fstat(self._file), self._path.stat()
        if (ours.st_ino, ours.st_dev) != (there.st_ino, there.st_dev):
            raise OSError(0, "the audit log was replaced by somebody else")
        if ours.st_size != self._size:
            raise OSError(0, "the audit log was changed by somebody else")

    def _write(self, fields: dict[str, Any]) -> None:
        self._hold()
        line, end = chain.seal(fields, self._end)
        if self._size and self._size + len(line) > self._rotate_at:
            self._rotate()
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(0, "no space left for the audit log")
            if self._fsync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # a part of a line is no record
            raise
        self._size += len(line)
        self._end = end

    def _rotate(self) -> None:
        """Put the full file aside under the next number; numbers never change, so a file once full stays as it is."""
        aside = self._path.with_name(f"{self._path.name}.{self._rotated + 1:06d}")
        if aside.exists():
            raise OSError(0, "the name for the full audit log is taken")
        self._path.rename(aside)
        try:
            fresh = _open(self._path)
        except OSError:
            aside.rename(self._path)
            raise
        os.close(self._file)
        self._file, self._size, self._rotated = fresh, 0, self._rotated + 1


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, 0o600)
    if not path.is_file():
        os.close(file)
        raise OSError(0, "not a regular file")
    return file


def _take(path: Path) -> int:
    """Lock the log for this process; the lock has a file of its own, since rotation renames the log."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ServingError(f"{path}: another server writes this audit log; give each its own --log") from error
    return lock


def _continue(path: Path) -> tuple[Link, int]:
    """Verify a log and say where its chain stands, and how many files were rotated away from it."""
    before = chain.earlier(path)
    start = chain.last(before[-1]) if before else START
    hashes = chain.walk(path, start)
    end = Link(start.seq + len(hashes), hashes[-1]) if hashes else start
    return end, int(before[-1].name.rpartition(".")[2]) if before else 0


def _heal(path: Path, file: int) -> None:
    """Move a last line without an end to ``path.torn-N``: its request was never answered."""
    size = os.fstat(file).st_size
    tail = os.pread(file, chain.LONGEST_LINE, max(0, size - chain.LONGEST_LINE))
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return
    number = 1
    while True:
        try:
            aside = os.open(path.with_name(f"{path.name}.torn-{number}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            break
        except FileExistsError:
            number += 1
    with os.fdopen(aside, "wb") as kept:
        kept.write(torn)
        kept.flush()
        os.fsync(kept.fileno())
    os.ftruncate(file, size - len(torn))
