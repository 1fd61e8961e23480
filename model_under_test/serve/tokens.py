"""API tokens: made at random, shown once, kept as SHA-256.

A fast hash is right here, where it would be wrong for a password: a token is 256 random bits, so there is no dictionary
to try, and slow hashing would only hand a flood of wrong tokens a lever. Every comparison looks at all entries in
constant time. Whoever changes a file holds the lock of ``FILE.lock`` from reading it to replacing it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_under_test.errors import ServingError

RANDOM_BYTES = 32
MAXIMUM_BYTES = 2**20
LOOK_AGAIN_SECONDS = 1.0
BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9_-]{1,128})")


class Scope(StrEnum):
    """What a token opens."""

    PREDICT = "predict"
    METRICS = "metrics"


class Entry(BaseModel):
    """One token as it is stored; ``expires`` is the last day (UTC) on which it is valid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    expires: date | None = None

    def expired(self, today: date | None = None) -> bool:
        """Tell whether its last day (UTC) is over."""
        return self.expires is not None and self.expires < (today or _today())


class Tokens(BaseModel):
    """The tokens of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    tokens: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        if len({entry.name for entry in self.tokens}) < len(self.tokens):
            raise ValueError("expected each name once: it is the client's id in the log")
        return self

    def find(self, authorization: str, today: date | None = None) -> Entry | None:
        """Return whose token an Authorization header carries; None for no token, an unknown one or an expired one."""
        given = BEARER.fullmatch(authorization)
        digest = _digest(given[1] if given else "")
        found = None
        for entry in self.tokens:  # all of them, so that time does not tell which one was near
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return None if found is None or given is None or found.expired(today) else found


class Watched:
    """The tokens of a file while a server runs: what is changed in it holds within a second.

    A file that cannot be used any more changes nothing but readiness; the tokens that were read last stay good.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Args:
            path: the file.
            clock: monotonic seconds.

        Raises:
            ServingError: as :func:`read`.
        """
        self._path, self._clock = path, clock
        self._mutex = threading.Lock()
        self._reason: str | None = None
        self._stamp, self._looked = _stamp(path), clock()
        self._tokens = read(path)

    def tokens(self) -> Tokens:
        """Return the tokens that hold now; looks at the file at most once a second."""
        with self._mutex:
            now = self._clock()
            if now - self._looked >= LOOK_AGAIN_SECONDS:
                self._looked = now
                self._look()
            return self._tokens

    def trouble(self) -> str | None:
        """Say that the file cannot be used any more; None while it can."""
        self.tokens()
        return None if self._reason is None else "the token file cannot be used; the tokens it held before are in force"

    def _look(self) -> None:
        found = _stamp(self._path)
        if found == self._stamp and self._reason is None:
            return
        try:
            self._tokens, self._stamp, self._reason = read(self._path), found, None
        except ServingError as error:
            if str(error) != self._reason:
                logging.getLogger(__name__).warning("%s; the tokens it held before are in force", error)
            self._reason = str(error)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file or who may write it does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(path: Path) -> Tokens:
    """Read a token file.

    Raises:
        ServingError: missing, writable by others, or not a token file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ServingError(f"{path}: expected a regular file of tokens")
        if status.st_mode & 0o022:
            raise ServingError(f"{path}: expected a file that only its owner can write; chmod 600 it")
        if status.st_size > MAXIMUM_BYTES:
            raise ServingError(f"{path}: expected a token file of at most {MAXIMUM_BYTES} bytes")
        return Tokens.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ServingError(f"{path}: expected a token file, got {error.strerror}; make one with `token`") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]  # its message only: the input may hold what nobody should read
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ServingError(f"{path}: {where}: {first['msg']}") from error


def add(
    path: Path,
    name: str,
    scopes: tuple[Scope, ...],
    expires: date | None = None,
    *,
    allow_expired: bool = False,
    today: date | None = None,
) -> str:
    """Make a token, add its hash to a file (created with mode 0600) and return the token: nobody can show it again.

    Args:
        path: the file; its folder is made.
        name: whose the token is.
        scopes: what it opens.
        expires: the last day (UTC) on which it is valid.
        allow_expired: that day may be over.
        today: the present day (UTC), where it is not the clock that tells.

    Raises:
        ServingError: the name is taken or not one, the last day is over, or the file is not a token file or cannot be
            written.
    """
    made = secrets.token_urlsafe(RANDOM_BYTES)
    try:
        entry = Entry(name=name, sha256=_digest(made), scopes=tuple(dict.fromkeys(scopes)), expires=expires)
        if entry.expired(today) and not allow_expired:
            raise ServingError(f"{path}: cannot add a token whose last day is over ({expires}); give a later one")
        with _changing(path):
            known = read(path) if path.exists() else Tokens()
            _write(path, Tokens(tokens=(*known.tokens, entry)))
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ServingError(f"{path}: cannot add a token named {name!r}: {message}") from error
    return made


def revoke(path: Path, name: str) -> None:
    """Remove a token from a file; a running server heeds it within a second.

    Raises:
        ServingError: there is no such name, or the file is not a token file or cannot be written.
    """
    with _changing(path):
        known = read(path)
        left = tuple(entry for entry in known.tokens if entry.name != name)
        if len(left) == len(known.tokens):
            raise ServingError(f"{path}: expected the name of a token in it, got {name!r}; `token list` shows them")
        _write(path, Tokens(tokens=left))


def _today() -> date:
    return datetime.now(UTC).date()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Wait until nobody else changes a file, and keep others from it. The lock has a file of its own, which stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise ServingError(f"{path}: cannot be written: {error.strerror}") from error


def _write(path: Path, tokens: Tokens) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(tokens.model_dump_json(indent=2).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)
