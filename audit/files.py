"""Writing files so that a reader sees the old one, the new one or none, and one writer at a time; and the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "MODEL_AUDIT_CACHE"


def cache_folder(root: Path) -> Path:
    """Return the git-ignored folder of what can be made again: ``$MODEL_AUDIT_CACHE``, else ``.cache`` of the root."""
    return Path(os.environ.get(CACHE_VARIABLE) or root / ".cache")


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace a file, creating its folder if need be; the umask still takes from ``mode``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.touch(mode)
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file while the span lasts; wait while another process does. A process that dies lets go of it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing is forked there, so only audits side by side could meet
        yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
