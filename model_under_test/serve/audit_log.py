"""The audit log: one line for every answered prediction request, with the operating system before the answer leaves.

What can be lost: nothing that was answered when the process is killed (at most a torn last line, of a request that
never got its answer); with power, what the operating system had not written yet, unless ``fsync`` waits for the disk.
When a line cannot be written, nothing is predicted: the refusals are remembered, and written first when it works again.
The same holds when somebody else has changed the log: what was falsified is not continued.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from model_under_test.errors import ServingError
from model_under_test.serve import appending, chain
from model_under_test.serve.chain import Broken, Link
from model_under_test.serve.held import Held

MOST_REMEMBERED = 1_000
ASK_AGAIN_SECONDS = 1.0
WHAT = "the audit log"


class LogUnavailable(Exception):
    """The record could not be written; the answer must not leave."""


class AuditLog:
    """One file, one writer, appended to under a lock."""

    def __init__(
        self,
        path: Path,
        *,
        rotate_at: int,
        fsync: bool = False,
        reserve: int = 0,
        noted: Iterable[Link] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the log for this process, heal a torn last line and verify the whole chain.

        Args:
            path: the log; its folder is made.
            rotate_at: size in bytes beyond which the file is renamed to ``path.NNNNNN`` and a new one begun.
            fsync: wait for the disk after each line.
            reserve: bytes of the file system that are kept for records that are not spare.
            noted: records that the chain must hold, as noted earlier.
            clock: monotonic seconds.

        Raises:
            ServingError: another process writes it, it was tampered with, or it cannot be written.
        """
        self._path, self._rotate_at, self._fsync = path, rotate_at, fsync
        self._reserve, self._clock = reserve, clock
        self._mutex = threading.Lock()
        self._remembered: deque[dict[str, Any]] = deque()
        self._reason: str | None = None
        self._room, self._asked = 0, float("-inf")
        self.forgotten = 0
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock = _take(path)
                undo.callback(os.close, self._lock)
                self._file = appending.opened(path)
                undo.callback(os.close, self._file)
                _heal(path, self._file)
                walked = dict(chain.walk_all(path, chain.Noted(noted)))
            except OSError as error:
                raise ServingError(f"{path}: the audit log cannot be written: {error.strerror}") from error
            except Broken as error:
                raise ServingError(f"{error}; keep the file as evidence, and start with another --log") from error
            undo.pop_all()
        current = walked.pop(path)
        self._end, self._held = current.end, Held(self._file, current, walked)
        self._rotated = int(list(walked)[-1].name.rpartition(".")[2]) if walked else 0

    @property
    def end(self) -> Link:
        """Say where the chain stands: the number of records, and the last hash."""
        return self._end

    @property
    def rotated(self) -> int:
        """Say how many files were rotated away so far."""
        return self._rotated

    @property
    def room(self) -> int:
        """Say how many bytes are left on the log's file system, asked at most once a second; 0 where it is silent."""
        now = self._clock()
        if now - self._asked >= ASK_AGAIN_SECONDS:
            try:
                there = os.statvfs(self._path.parent)
                self._room = there.f_bavail * there.f_frsize
            except OSError:
                self._room = 0
            self._asked = now
        return self._room

    def append(self, fields: dict[str, Any], *, spare: bool = False) -> None:
        """Write one record (every key of the contract but seq, previous and hash).

        Args:
            fields: the record.
            spare: it is forgotten, and counted, where only the reserve is left.

        Raises:
            LogUnavailable: it is not in the file; it is remembered as a refusal (status 503, no class).
        """
        with self._mutex:
            if spare and self.room < self._reserve:
                self.forgotten += fields["count"]
                return
            try:
                self._catch_up()
                self._write(fields)
                self._reason = None
            except OSError as error:
                self._remember({**fields, "class": None, "confidence": None, "status": 503})
                self._reason = error.strerror or "changed by somebody else"
                raise LogUnavailable(self._reason) from error

    def watch(self, now: float) -> None:
        """Compare the files with what they are known to hold, when it is time to.

        Args:
            now: monotonic seconds.
        """
        self._held.look(now)

    def trouble(self) -> str | None:
        """Say why records cannot be written; None while they can. Tries again what could not be written before."""
        self.watch(self._clock())
        with self._mutex:
            try:
                self._hold()
                self._catch_up()
                self._reason = None
            except OSError as error:
                self._reason = error.strerror or "changed by somebody else"
            return self._reason

    def settle(self) -> Link:
        """Wait until the disk holds all records so far; returns where the chain stands on it.

        Raises:
            LogUnavailable: the disk does not say so.
        """
        try:
            with self._mutex:
                end, file = self._end, os.dup(self._file)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise LogUnavailable(error.strerror) from error
        return end

    def close(self) -> None:
        """Give the log back."""
        self._held.close()
        with self._mutex:
            os.close(self._file)
            os.close(self._lock)

    def _remember(self, fields: dict[str, Any]) -> None:
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered.append(fields)
        else:
            self.forgotten += fields["count"]

    def _catch_up(self) -> None:
        while self._remembered:
            self._write(self._remembered[0])
            self._remembered.popleft()

    def _hold(self) -> None:
        """See that nobody else has changed the log, as far as is known, and that it is as long as we left it."""
        if self._held.trouble is not None:
            raise OSError(0, self._held.trouble)
        appending.still_ours(self._file, self._path, self._held.size, WHAT)

    def _write(self, fields: dict[str, Any]) -> None:
        self._hold()
        line, end = chain.seal(fields, self._end)
        if self._held.size and self._held.size + len(line) > self._rotate_at:
            self._rotate()
        appending.write(self._file, line, self._held.size, fsync=self._fsync, what=WHAT)
        self._held.wrote(line)
        self._end, self._room = end, self._room - len(line)

    def _rotate(self) -> None:
        """Put the full file aside under the next number; numbers never change, so a file once full stays as it is."""
        aside = self._path.with_name(f"{self._path.name}.{self._rotated + 1:06d}")
        if aside.exists():
            raise OSError(0, "the name for the full audit log is taken")
        os.fsync(self._file)  # `settle` waits for the newest file only
        self._path.rename(aside)
        try:
            fresh = appending.opened(self._path)
        except OSError:
            aside.rename(self._path)
            raise
        self._held.rotated(aside, fresh)
        os.close(self._file)
        self._file, self._rotated = fresh, self._rotated + 1


def _take(path: Path) -> int:
    """Lock the log for this process; the lock has a file of its own, since rotation renames the log."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ServingError(f"{path}: another server writes this audit log; give each its own --log") from error
    return lock


def _heal(path: Path, file: int) -> None:
    """Move a last line without an end to ``path.torn-N``: its request was never answered."""
    torn = appending.torn(file, chain.LONGEST_LINE)
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
    os.ftruncate(file, os.fstat(file).st_size - len(torn))
