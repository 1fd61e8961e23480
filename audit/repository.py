"""What git knows: tracked files, commit, dirty or not, and files as they were at another commit.

No ``GIT_*`` variable of ours reaches git: one of them would have it look at another repository.
"""

from __future__ import annotations

import os
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


def is_shallow(root: Path) -> bool:
    """Tell whether the history was cut off when it was fetched.

    Raises:
        ScannerError: git is not installed, or root is not inside a git checkout.
    """
    return _git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def resolve(root: Path, revision: str) -> str | None:
    """Return the full id of the commit that a revision names, or None where there is none."""
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except ScannerError:
        return None


def merge_base(root: Path, one: str, other: str) -> str | None:
    """Return the commit from which two commits went apart, or None where they have none in common."""
    try:
        return _git(root, "merge-base", one, other).strip()
    except ScannerError:
        return None


def file_at(root: Path, commit: str, name: str) -> bytes | None:
    """Return what a file, its name relative to root, held at a commit; None where it was not there.

    Raises:
        ScannerFailed: git cannot say.
    """
    if not _git(root, "ls-tree", "--name-only", "-z", commit, "--", name):
        return None
    return _git(root, "show", f"{commit}:./{name}").encode()


def _git(root: Path, *arguments: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = run([find_tool("git"), *arguments], cwd=root, seconds=GIT_SECONDS, environment=ours)
    if done.code:
        raise ScannerFailed(f"git {arguments[0]}: {done.tail}")
    return done.stdout
