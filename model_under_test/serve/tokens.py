"""API tokens: made at random, shown once, kept as SHA-256.

A fast hash is right here, where it would be wrong for a password: a token is 256 random bits, so there is no dictionary
to try, and slow hashing would only hand a flood of wrong tokens a lever. Every comparison looks at all entries in
constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_under_test.errors import ServingError

RANDOM_BYTES = 32
MAXIMUM_BYTES = 2**20
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
        if found is None or given is None:
            return None
        return None if found.expires and found.expires < (today or datetime.now(UTC).date()) else found


def read(path: Path) -> Tokens:
    """Read a token file.

    Raises:
        ServingError: missing, writable by others, or not a token file.
    """
    try:
        status = path.stat()
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


def add(path: Path, name: str, scopes: tuple[Scope, ...], expires: date | None = None) -> str:
    """Make a token, add its hash to a file (created with mode 0600) and return the token: nobody can show it again.

    Raises:
        ServingError: the name is taken or not one, or the file is not a token file or cannot be written.
    """
    known = read(path) if path.exists() else Tokens()
    made = secrets.token_urlsafe(RANDOM_BYTES)
    try:
        entry = Entry(name=name, sha256=_digest(made), scopes=tuple(dict.fromkeys(scopes)), expires=expires)
        _write(path, Tokens(tokens=(*known.tokens, entry)))
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ServingError(f"{path}: cannot add a token named {name!r}: {message}") from error
    except OSError as error:
        raise ServingError(f"{path}: cannot be written: {error.strerror}") from error
    return made


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write(path: Path, tokens: Tokens) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(tokens.model_dump_json(indent=2).encode() + b"\n")
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)
