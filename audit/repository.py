"""What git knows about the working tree: tracked files, commit, dirty or not."""

from __future__ import annotations

from pathlib import Path

from audit.errors import ScannerError, ScannerFailed
from audit.process import find_tool, run

GIT_SECONDS = 30.0


def tracked_files(root: Path, pattern: str) -> tuple[str, ...]:
    """Return the tracked files that match a git pathspec and exist, relative to root.

    Raises:
        ScannerMissing: git is not installed.
        ScannerFailed: root is not inside a git checkout.
    """
    listed = _git(root, "ls-files", "-z", "--", pattern)
    return tuple(sorted(name for name in listed.split("\0") if name and (root / name).is_file()))


def commit(root: Path) -> str | None:
    """Return the full commit id, or None outside a git checkout or before the first commit."""
    try:
        return _git(root, "rev-parse", "--verify", "HEAD").strip()
    except ScannerError:
        return None


def is_dirty(root: Path) -> bool | None:
    """Tell whether tracked files differ from the commit or untracked ones exist; None where git cannot say."""
    try:
        return bool(_git(root, "status", "--porcelain").strip())
    except ScannerError:
        return None


def _git(root: Path, *arguments: str) -> str:
    done = run([find_tool("git"), *arguments], cwd=root, seconds=GIT_SECONDS)
    if done.code:
        raise ScannerFailed(f"git {arguments[0]}: {done.tail}")
    return done.stdout
