"""SHA-256 of installed files, remembered, so that an environment of six gigabytes is read once.

What is remembered is a digest, never that it was the right one: RECORD is read and compared every time. It is believed
for a file whose path, device, inode, size, mtime and *ctime* are those of the file that was read. The kernel sets ctime
and no system call sets it back, so an edit that keeps the size and restores mtime (``touch -r``) is read again; so is
every file of an environment that was made anew, whose inodes and times nobody could foresee. Hence a memory that was
committed, or came with a restored cache of another machine, fits no file here. What changed within two seconds before
it was read is not remembered at all, for a second change could bear the same time.

The memory is believed if it is a file of this user's that nobody else may write. That protects against whoever can
write into the cache and not into the environment. Whoever can write as this user into both, or can set the clock and
write to the disk below the file system, needs no memory: RECORD is as easily rewritten, and an environment made anew
from the lock, with hashes, is the only remedy.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from audit.files import write_atomically

Stamp = list[int]
Known = dict[str, tuple[Stamp, str]]

VERSION = 1
SETTLED_NS = 2 * 10**9  # nanoseconds after a change from which on a file is remembered
NO_FILE = "is no regular file"


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 in hexadecimal by path, and why there is none; of ``size`` bytes in all, ``fresh`` were read just now."""

    known: Mapping[str, str]
    gone: frozenset[str]
    unreadable: Mapping[str, str]
    fresh: int
    size: int


def digests(paths: Iterable[str], memory: Path) -> Digests:
    """Return the digests of files: from the memory for those that did not change, else read, several at a time."""
    before, begun = _remembered(memory), time.time_ns()
    now: Known = {}
    unknown: dict[str, int] = {}
    gone, unreadable, size = set(), {}, 0
    for path in paths:
        try:
            told = os.stat(path)  # noqa: PTH116  # thirty thousand of them
        except (FileNotFoundError, NotADirectoryError):
            gone.add(path)
            continue
        except OSError as error:
            unreadable[path] = error.strerror or type(error).__name__
            continue
        size += told.st_size
        if path in before and before[path][0] == _stamp(told):
            now[path] = before[path]
        else:
            unknown[path] = told.st_size
    in_turn = sorted(unknown, key=lambda path: -unknown[path])  # so that no large one is last
    with ThreadPoolExecutor() as threads:  # hashlib lets go of the interpreter while it computes
        for path, (stamp, found) in zip(in_turn, threads.map(_read, in_turn), strict=True):
            if stamp is None:
                unreadable[path] = found
            else:
                now[path] = (stamp, found)
    _remember(memory, {path: one for path, one in now.items() if one[0][-1] < begun - SETTLED_NS}, before)
    known = {path: digest for path, (_, digest) in now.items()}
    return Digests(known, frozenset(gone), unreadable, sum(unknown.values()), size)


def _stamp(told: os.stat_result) -> Stamp:
    return [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]


def _read(path: str) -> tuple[Stamp | None, str]:
    """Return the stamp and the digest of the very file that was opened; without a stamp, why there is none."""
    try:
        # a pipe would otherwise be waited for
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:  # noqa: PTH123
            told = os.fstat(stream.fileno())
            if not stat.S_ISREG(told.st_mode):
                return None, NO_FILE
            return _stamp(told), hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return None, error.strerror or type(error).__name__


def _remembered(memory: Path) -> Known:
    """Return what a memory holds that only this user could have written, and that is one; else nothing."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        told = memory.lstat()
        ours = hasattr(os, "getuid") and told.st_uid == os.getuid()
        if ours and stat.S_ISREG(told.st_mode) and not told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            held = json.loads(memory.read_bytes())
            if held["version"] == VERSION:
                return {path: (list(stamp), str(digest)) for path, (stamp, digest) in held["files"].items()}
    return {}


def _remember(memory: Path, now: Known, before: Known) -> None:
    """Write a memory, for this user only; one that cannot be written costs time at the next audit, and nothing else."""
    if now == before:
        return
    with suppress(OSError):
        write_atomically(memory, json.dumps({"version": VERSION, "files": now}).encode())
        memory.chmod(0o600)
