"""What git knows: commit, dirty or not, what it tracks, what lies here that nobody tracks, and files as they once were.

Git is asked without the variables that show it another index or another tree, and without what the configuration of a
checkout can add: programs that it runs, caches of what changed, and other ideas of where the tree lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os.path import realpath  # Path.resolve breaks off at links that lead in a circle
from pathlib import Path

from audit.errors import ScannerError, ScannerFailed
from audit.process import run
from audit.programs import find_program
from audit.tools import environment

GIT_SECONDS = 30.0
_SUBMODULE = "160000"  # a mode in the index
_SETTINGS = (
    *("--no-optional-locks", "--no-pager", "--no-replace-objects"),
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),  # programs that git would run
    *("-c", "core.untrackedCache=false", "-c", "core.checkStat=default", "-c", "core.trustctime=true"),
)
_SKIPPED = "S"  # how ls-files -v marks skip-worktree; assume-unchanged makes any mark a small letter


@dataclass(slots=True)
class WorkingTree:
    """Paths relative to the root: tracked files, what is tracked and cannot be read as it is, with why, and others.

    ``untracked`` has what no .gitignore of the tree names, also where this machine alone ignores it
    (``.git/info/exclude``, ``core.excludesFile``); a folder there is a repository of its own and ends with a slash.
    """

    tracked: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    untracked: list[str] = field(default_factory=list)


def working_tree(root: Path) -> WorkingTree:
    """Return what lies in a working tree, submodules included.

    Raises:
        ScannerMissing: there is no git, or none that can be trusted.
        ScannerFailed: root is not inside a git checkout, or its configuration places the tree elsewhere.
    """
    found, waiting = WorkingTree(), [""]
    entries: list[str] = []
    while waiting:
        inside = waiting.pop()
        _check_place(root / inside)
        for mode, name in _index(root / inside):
            if mode != _SUBMODULE:
                entries.append(inside + name)
            elif (root / inside / name / ".git").exists():
                waiting.append(f"{inside}{name}/")
            else:
                found.unread[inside + name] = "a submodule that is not checked out"
        left = _lines(root / inside, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
        found.untracked += [inside + name for name in left]
    real = {name: Path(realpath(root / name)) for name in sorted(set(entries))}
    found.tracked = [name for name, path in real.items() if path.is_file()]
    found.unread |= _not_to_be_read(Path(realpath(root)), real)
    found.untracked.sort()
    return found


def tracked_files(root: Path, pattern: str) -> tuple[str, ...]:
    """Return the tracked files that match a git pathspec and exist, relative to root.

    Raises:
        ScannerMissing: there is no git, or none that can be trusted.
        ScannerFailed: root is not inside a git checkout.
    """
    return tuple(sorted(name for name in _lines(root, "ls-files", "-z", "--", pattern) if (root / name).is_file()))


def commit(root: Path) -> str | None:
    """Return the full commit id, or None outside a git checkout or before the first commit."""
    try:
        return _git(root, "rev-parse", "--verify", "HEAD").strip()
    except ScannerError:
        return None


def is_dirty(root: Path) -> bool | None:
    """Tell whether tracked files differ from the commit or untracked ones exist.

    None where git cannot say: outside a checkout, or where it was told not to look at some files.
    """
    try:
        changed = _git(root, "status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none")
        marks = {line[0] for line in _lines(root, "ls-files", "-v", "-z")}
    except ScannerError:
        return None
    blind = _SKIPPED in marks or any(mark.islower() for mark in marks)
    return None if blind and not changed.strip() else bool(changed.strip())


def _not_to_be_read(root: Path, real: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield tracked paths whose content is not here, or is not what the commit holds, each with why.

    Args:
        root: the root, links followed.
        real: where each path leads, links followed.
    """
    folders = {parent for path in real.values() for parent in path.parents}
    for name, path in real.items():
        if not path.is_relative_to(root):
            yield name, "it leads out of the repository, so what lies here is not what the commit holds"
        elif path.is_dir() and path not in folders:
            yield name, "it leads to a folder in which git tracks nothing"
        elif not path.exists():
            yield name, "it is tracked, but not here"


def _check_place(folder: Path) -> None:
    """Hold git's idea of where the tree begins to where its ``.git`` lies."""
    top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    nearest = next((one for one in (folder, *folder.resolve().parents) if (one / ".git").exists()), None)
    if nearest is None or top.resolve() != nearest.resolve():
        raise ScannerFailed(
            "git: expected its working tree to be the folder that .git lies in; the configuration of this checkout "
            "(core.worktree) places it elsewhere, so git does not list what is audited"
        )


def _index(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield mode and path of what git tracks below a folder."""
    for line in _lines(folder, "ls-files", "-z", "--stage"):
        about, _, name = line.partition("\t")
        yield about.partition(" ")[0], name


def _lines(folder: Path, *arguments: str) -> list[str]:
    return [one for one in _git(folder, *arguments).split("\0") if one]


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
    command = [find_program("git", root), *_SETTINGS, *arguments]
    done = run(command, cwd=root, seconds=GIT_SECONDS, environment=environment(root))
    if done.code:
        raise ScannerFailed(f"git {arguments[0]}: {done.tail}")
    return done.stdout
