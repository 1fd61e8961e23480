"""The hash chain of the audit log: how a record is sealed, and how a file is held to the chain. Writes nothing.

Each line is the canonical JSON of one record (keys sorted, no spaces, ASCII); ``hash`` is the SHA-256 of the canonical
JSON of all other keys, ``previous`` the hash of the line before. Whoever edits, removes, inserts or moves a line breaks
the chain there. A chain without a key cannot tell a tail that was rewritten from the edited line to the very end, nor
lines that were cut off at the end: for that the last hash has to be noted elsewhere (``anchor``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = frozenset(
    {"seq", "time", "request_id", "client", "input_sha256", "model_digest", "class", "status", "previous", "hash"}
)
LONGEST_LINE = 2**14
_NUMBERED = re.compile(r"\.(\d{6,})")


class Broken(Exception):
    """A log that is not what was written."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        """Say in which line of which file, counted from 1, what is wrong."""
        super().__init__(f"{path}: line {line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


@dataclass(frozen=True, slots=True)
class Link:
    """How far a chain reaches: the number of its last record, and that one's hash."""

    seq: int
    hash: str


START = Link(0, "0" * 64)


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return the one way to write a record."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def seal(fields: Mapping[str, Any], after: Link) -> tuple[bytes, Link]:
    """Return the line for a record that follows ``after``, its line end included, and the chain's new end."""
    record = {**fields, "seq": after.seq + 1, "previous": after.hash}
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return canonical({**record, "hash": digest}) + b"\n", Link(after.seq + 1, digest)


def read(raw: bytes) -> tuple[Link, str]:
    """Read one line; returns its place in the chain and the hash of the line before it.

    Raises:
        ValueError: it was torn, or edited.
    """
    if not raw.endswith(b"\n"):
        raise ValueError("torn: it has no line end")
    try:
        record = json.loads(raw)
        if canonical(record) != raw[:-1] or set(record) != KEYS or not isinstance(record["seq"], int):
            raise ValueError
        claimed = record.pop("hash")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("edited: not a record as this service writes it") from error
    if hashlib.sha256(canonical(record)).hexdigest() != claimed:
        raise ValueError("edited: its hash is not that of its content")
    return Link(record["seq"], claimed), record["previous"]


def follow(raw: bytes, after: Link) -> Link:
    """Hold one line to the line before it; returns the chain's new end.

    Raises:
        ValueError: what is wrong.
    """
    link, previous = read(raw)
    if link.seq > after.seq + 1:
        raise ValueError(f"expected record {after.seq + 1}, got {link.seq}: lines before it were removed or moved")
    if link.seq <= after.seq:
        raise ValueError(f"expected record {after.seq + 1}, got {link.seq}: inserted, repeated or moved")
    if previous != after.hash:
        raise ValueError("does not follow the line before it: one of the two was edited or inserted")
    return link


def earlier(path: Path) -> list[Path]:
    """Return the files that were rotated away from a log, the oldest first."""
    found = []
    for one in path.parent.glob("*"):
        number = _NUMBERED.fullmatch(one.name.removeprefix(path.name)) if one.name.startswith(path.name) else None
        if number:
            found.append((int(number[1]), one))
    return [one for _, one in sorted(found)]


def last(path: Path) -> Link:
    """Return where the chain stands at the end of a file that was rotated away.

    Raises:
        Broken: its last line is not whole.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LONGEST_LINE))
        lines = file.read().splitlines(keepends=True)
    try:
        return read(lines[-1] if lines else b"")[0]
    except ValueError as error:
        raise Broken(path, len(lines), f"(counted from near the end) {error}") from error


def walk(path: Path, after: Link) -> list[str]:
    """Hold every line of one file to the chain; returns the hashes of its lines.

    Raises:
        Broken: the first line that does not fit.
        OSError: it cannot be read.
    """
    hashes = []
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            try:
                after = follow(raw, after)
            except ValueError as error:
                raise Broken(path, number, str(error)) from error
            hashes.append(after.hash)
    return hashes


def verify(path: Path, anchor: str | None = None) -> int:
    """Verify a log together with the files rotated away from it that lie beside it; returns the number of records.

    Args:
        path: the log.
        anchor: a hash that was noted earlier (``/readyz`` gives the last one), and must be in it still.

    Raises:
        Broken: the first line that does not fit, or the anchor is missing.
        OSError: a file cannot be read.
    """
    after, records, anchored = START, 0, anchor is None
    for one in (*earlier(path), path):
        hashes = walk(one, after)
        records += len(hashes)
        anchored = anchored or anchor in hashes
        if hashes:
            after = Link(records, hashes[-1])
    if not anchored:
        raise Broken(path, records, "the noted hash is not in the chain: its end was cut off, or written anew")
    return records
