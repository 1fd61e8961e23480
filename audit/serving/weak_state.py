"""What the stand-in server keeps: an audit log (chained, rotated, anchored, watched), its places, and its tokens."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

FORGOTTEN = 10_000  # lines of the log that the forgetful one keeps in memory
FIRST = "0" * 64
LOOK_AGAIN_SECONDS = 1.0
ALONE, FOLDED_SECONDS = 10, 5.0  # refusals of a client that have a line each, and seconds between lines for the rest


class Log:
    """A hash chain of JSON lines; a torn last line is moved aside. The blind one never looks at what it has written."""

    def __init__(self, path: Path, weak: str, settings: dict[str, Any]) -> None:
        """Go on where the files end.

        Raises:
            ValueError: they are not what was written.
        """
        self.path, self.weak, self.settings, self.lock = path, weak, settings, Lock()
        self.kept, self.trouble, self.failed = list[bytes](), "", False
        self.looked, self.noted, self.due = 0.0, (time.monotonic(), 0), 0.0
        self.refused, self.folded = Counter[str](), Counter[tuple[str, int]]()
        whole, _, torn = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
        if torn:
            path.with_name(f"{path.name}.torn-1").write_bytes(torn)
            path.write_bytes(whole + b"\n" if whole else b"")
        path.touch()
        self.seq, self.last = walk(path) if weak != "blind" else (0, FIRST)
        self.known = {one: hashlib.sha256(one.read_bytes()) for one in files(path)}
        self.size, self.file = path.stat().st_size, path.open("ab", buffering=0)

    def add(self, **entry: Any) -> None:
        """Write one line to the operating system; the forgetful one puts that off. Many refusals share one.

        Raises:
            OSError: it is not there, or somebody else has changed the log.
        """
        with self.lock:
            client, status = entry["client"], entry["status"]
            self.refused[client] += status != 200
            if status != 200 and self.refused[client] > ALONE:
                self.folded[client, status] += 1
            else:
                self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        self._hold()
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry |= {"seq": self.seq + 1, "time": now, "previous": self.last}
        entry["hash"] = chained(entry)
        self.kept.append(canonical(entry) + b"\n")
        if self.weak != "forgetful" or len(self.kept) >= FORGOTTEN:
            self._write(b"".join(self.kept))
        self.seq, self.last = self.seq + 1, entry["hash"]

    def tick(self, *, end: bool = False) -> None:
        """Write folded refusals and an anchor, and compare the files with what is known, when it is time to."""
        with self.lock:
            now, rotated = time.monotonic(), len(self.known)
            if self.folded and (end or now > self.due):
                folded, self.folded, self.due = self.folded, Counter(), now + FOLDED_SECONDS
                for (client, status), times in folded.items():
                    self._append({"client": client, "status": status, "count": times})
            since, before = self.noted
            if end or now - since > float(self.settings["anchor_seconds"]) or rotated > before:
                with anchors(self.path).open("a", encoding="utf-8") as file:
                    file.write(f"{self.seq} {self.last}\n")
                self.noted = now, rotated
            if self.weak != "blind" and now - self.looked > LOOK_AGAIN_SECONDS:
                self.looked = now
                changed = [path.name for path, known in self.known.items() if not same(path, known.hexdigest())]
                self.trouble = f"changed: {changed}" if changed else ""

    def _hold(self) -> None:
        """See that the file is ours, and as long as we left it."""
        ours, there = os.fstat(self.file.fileno()), self.path.stat()
        if self.weak != "blind" and (self.trouble or ours.st_ino != there.st_ino or there.st_size != self.size):
            raise OSError(0, self.trouble or "replaced")

    def _write(self, content: bytes) -> None:
        self.kept.clear()
        if self.size and self.size + len(content) > int(self.settings["log_bytes"]):
            aside = self.path.with_name(f"{self.path.name}.{len(self.known):06d}")
            self.path.rename(aside)
            self.known[aside] = self.known[self.path]
            self.file.close()
            self.file, self.size = self.path.open("ab", buffering=0), 0
            self.known[self.path] = hashlib.sha256()
        try:
            if self.file.write(content) < len(content):
                raise OSError(0, "no space left")
        except OSError:
            self.file.truncate(self.size)
            self.failed = True
            raise
        self.failed = False
        self.known[self.path].update(content)
        self.size += len(content)


class Places:
    """Answers that are worked on at once: so many in all, three quarters of them for one client."""

    def __init__(self, most: int) -> None:
        """Start with all free."""
        self.most, self.lock, self.taken = most, Lock(), Counter[str]()

    def take(self, client: str) -> bool:
        """Take a place, where there is one."""
        with self.lock:
            if self.taken.total() >= self.most or self.taken[client] >= max(1, self.most * 3 // 4):
                return False
            self.taken[client] += 1
            return True

    def give(self, client: str) -> None:
        """Give it back."""
        with self.lock:
            self.taken[client] -= 1


def same(path: Path, digest: str) -> bool:
    """Tell whether a file holds what it should."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def anchors(path: Path) -> Path:
    """Return where the anchors of a log are."""
    return path.with_name(f"{path.name}.anchors")


def files(path: Path) -> list[Path]:
    """Return the files of a log, the oldest first."""
    return [*sorted(one for one in path.parent.glob(f"{path.name}.*") if one.suffix[1:].isdecimal()), path]


def canonical(entry: dict[str, Any]) -> bytes:
    """Return the one way to write a line."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def chained(entry: dict[str, Any]) -> str:
    """Return the hash of a line's other keys."""
    return hashlib.sha256(canonical({key: value for key, value in entry.items() if key != "hash"})).hexdigest()


def walk(path: Path) -> tuple[int, str]:
    """Follow the chain through all files, and hold it to its anchors; returns the number of lines and the last hash.

    Raises:
        ValueError: which line of which file is not what was written.
    """
    seq, last, hashes = 0, FIRST, [FIRST]
    for one in files(path):
        lines = one.read_bytes().split(b"\n")
        if lines.pop():
            raise ValueError(f"{one.name}: line {len(lines) + 1}: torn")
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                whole = (entry["previous"], entry["hash"], entry["seq"]) == (last, chained(entry), seq + 1)
            except (ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                raise ValueError(f"{one.name}: line {number}: not what was written")
            seq, last = seq + 1, entry["hash"]
            hashes.append(last)
    noted = anchors(path).read_text(encoding="utf-8").split() if anchors(path).exists() else []
    for place, known in zip(noted[::2], noted[1::2], strict=True):
        if int(place) >= len(hashes) or hashes[int(place)] != known:
            raise ValueError(f"{path.name}: record {place} was noted, and is not there")
    return seq, last


def make_token(path: Path, name: str, scopes: list[str] | None, expires: str | None) -> int:
    """Print a new token and keep its hash; without scopes, take the tokens of that name away."""
    token, known = secrets.token_urlsafe(24), json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {digest: entry for digest, entry in known.items() if entry["name"] != name}
    if scopes:
        known[hashlib.sha256(token.encode()).hexdigest()] = {"name": name, "scopes": scopes, "expires": expires}
        sys.stdout.write(f"{token}\n")
    path.with_suffix(".new").write_text(json.dumps(known), encoding="utf-8")
    path.with_suffix(".new").replace(path)
    return 0
