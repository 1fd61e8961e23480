"""Lines of an audit log, edited as somebody would who knows how they are chained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


def edited(line: bytes, *, rehash: bool, key: str = "class") -> bytes:
    """Return a line with another value under a key; with ``rehash`` its own hash fits again."""
    entry = json.loads(line)
    entry[key] = (entry.get(key) or 0) + 1 if key == "class" else f"{entry.get(key)}x"
    return written(entry, rehash=rehash)


def written(entry: dict[str, Any], *, rehash: bool) -> bytes:
    """Return an entry as a line, in the one way in which lines are written."""
    if rehash:
        rest = {name: value for name, value in entry.items() if name != "hash"}
        entry = rest | {"hash": hashlib.sha256(canonical(rest)).hexdigest()}
    return canonical(entry) + b"\n"


def canonical(entry: dict[str, Any]) -> bytes:
    """Return the canonical JSON of an entry."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def anew(lines: Sequence[bytes]) -> list[bytes]:
    """Chain lines again from the first one on, which keeps the hash of the line before it."""
    made, last = list[bytes](), ""
    for line in lines:
        entry = json.loads(line)
        made.append(written(entry | ({"previous": last} if last else {}), rehash=True))
        last = json.loads(made[-1])["hash"]
    return made
