"""Files to which one process appends whole lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def opened(path: Path) -> int:
    """Open a file for reading and appending; it is made with mode 0600 where there is none.

    Raises:
        OSError: it cannot be opened, is a link, or no regular file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, "not a regular file")
    return file


def write(file: int, line: bytes, size: int, *, fsync: bool, what: str) -> None:
    """Append one line to a file of ``size`` bytes, all of it or nothing.

    Raises:
        OSError: it is not in the file; ``what`` names it.
    """
    try:
        if os.write(file, line) < len(line):
            raise OSError(0, f"no space left for {what}")
        if fsync:
            os.fsync(file)
    except OSError:
        os.ftruncate(file, size)  # a part of a line is no record
        raise


def still_ours(file: int, path: Path, size: int, what: str) -> None:
    """See that an open file is where we left it, and as long.

    Raises:
        OSError: it is not; ``what`` names it.
    """
    ours, there = os.fstat(file), path.stat()
    if (ours.st_ino, ours.st_dev) != (there.st_ino, there.st_dev):
        raise OSError(0, f"{what} was replaced by somebody else")
    if ours.st_size != size:
        raise OSError(0, f"{what} was changed by somebody else")


def torn(file: int, longest: int) -> bytes:
    """Return what stands behind the last line end of a file, of at most ``longest`` bytes."""
    size = os.fstat(file).st_size
    tail = os.pread(file, longest, max(0, size - longest))
    return tail[tail.rfind(b"\n") + 1 :]
