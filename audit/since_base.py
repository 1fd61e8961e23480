"""What the policy and the waivers of a run loosen since the commit that its branch left the default branch at.

It is told and closes no gate: whoever reviews the branch decides. Where it cannot be told, that is said.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path
from typing import Any

from audit import repository
from audit.compare import of_policies, of_waivers, printable, sorted_by_way
from audit.compare.policies import Named
from audit.errors import AuditError, PolicyError
from audit.policy import PolicyFile, read_policy
from audit.records import Waiver
from audit.waivers import read_waivers

DEFAULT_BRANCHES = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)


@dataclass(frozen=True, slots=True)
class Base:
    """A commit to compare with, and what it is."""

    commit: str
    what: str


def policy_changes(root: Path, file: PolicyFile, waivers_file: str, waivers: tuple[Waiver, ...]) -> dict[str, Any]:
    """Compare a policy and its waivers, as they lie here, with those at the base.

    Returns:
        ``base`` (commit) and ``compared_with`` (what that is), None where there is none; ``loosened``, ``tightened``
        and ``changed``, a line each; ``note``, why something was not compared, None where all of it was; and what of
        that every report begins with, as ``sentences``.
    """
    try:
        base = find_base(root)
    except AuditError as error:
        return _told(None, [], [f"policy and waivers were not compared with earlier ones: {error}"])
    changes: list[Named] = []
    notes: list[str] = []
    parts: dict[str, Callable[[], Iterator[Named]]] = {
        "policy": lambda: _of_policy(root, base, file),
        "waivers": lambda: _of_waivers(root, base, waivers_file, waivers),
    }
    for what, found in parts.items():
        try:
            changes += found()
        except AuditError as error:
            notes.append(f"{what} not compared: {error}")
    return _told(base, changes, notes)


def find_base(root: Path) -> Base:
    """Return the commit at which this branch left the default branch; on that one, the parent of its last commit.

    The parent, because on the default branch what is to be reviewed is what the last commit, or merge, brought. A first
    commit has none, and is itself the base of what is not committed yet.

    Raises:
        AuditError: there is no git, no commit, no default branch, nothing in common with it, or no whole history.
    """
    if repository.is_shallow(root):
        raise AuditError("this is a shallow clone; fetch the whole history")
    head = repository.resolve(root, "HEAD")
    if head is None:
        raise AuditError("there is no commit yet")
    for name in DEFAULT_BRANCHES:
        branch = repository.resolve(root, name)
        if branch is not None:
            return _base(root, head, branch, name)
    raise AuditError("there is no branch origin/HEAD, origin/main, origin/master, main or master")


def _base(root: Path, head: str, branch: str, name: str) -> Base:
    shown = name.removeprefix("refs/remotes/").removeprefix("refs/heads/")
    found = repository.merge_base(root, head, branch)
    if found is None:
        raise AuditError(f"HEAD and {shown} have no commit in common")
    if found != head:
        return Base(found, f"the merge base with {shown}")
    parent = repository.resolve(root, f"{head}^1")
    return Base(head, "the first commit") if parent is None else Base(parent, f"the last commit before HEAD on {shown}")


def _of_policy(root: Path, base: Base, file: PolicyFile) -> Iterator[Named]:
    old = read_policy(root / _inside(root, file.path), root, _reader(root, base))
    return of_policies(old.policy.model_dump(mode="json"), file.policy.model_dump(mode="json"))


def _of_waivers(root: Path, base: Base, name: str, waivers: tuple[Waiver, ...]) -> Iterator[Named]:
    was_there = repository.file_at(root, base.commit, name) is not None
    old = read_waivers(root / name, _reader(root, base)) if was_there else ()
    return of_waivers(*([one.model_dump(mode="json") for one in some] for some in (old, waivers)))


def _inside(root: Path, path: Path) -> Path:
    """Return a file's name relative to root. Links are not followed: where they lead to, a branch may have changed.

    Raises:
        PolicyError: it lies outside.
    """
    named = Path(normpath(path.absolute()))
    for place in (Path(normpath(root.absolute())), root.resolve()):
        if named.is_relative_to(place):
            return named.relative_to(place)
    raise PolicyError(f"{path.name} lies outside the repository")


def _reader(root: Path, base: Base) -> Callable[[Path], bytes]:
    """Return a function that reads a file as it was at the base."""

    def read(path: Path) -> bytes:
        content = repository.file_at(root, base.commit, _inside(root, path).as_posix())
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "none there, it is new or was renamed")
        return content

    return read


def _told(base: Base | None, changes: list[Named], notes: list[str]) -> dict[str, Any]:
    found = {one.title: one.changes for one in sorted_by_way(changes).sections}
    lines = {
        title: [printable(f"{one.subject}: {one.text}") for one in found.get(title, ())]
        for title in ("loosened", "tightened", "changed")
    }
    note = printable("; ".join(notes)) or None
    return {
        "base": base.commit if base else None,
        "compared_with": base.what if base else None,
        **lines,
        "note": note,
        "sentences": list(_sentences(base, lines["loosened"], note)),
    }


def _sentences(base: Base | None, loosened: list[str], note: str | None) -> Iterator[str]:
    """Yield what was loosened, that nothing was, or why that is not known."""
    since = f"since {base.commit[:10]}, {base.what}" if base else ""
    yield from (f"The policy was LOOSENED {since}: {line}" for line in loosened)
    if note is not None:
        yield f"Whether the policy was loosened {f'{since} ' if since else ''}is not wholly known: {note}"
    elif not loosened:
        yield f"The policy was not loosened {since}."
