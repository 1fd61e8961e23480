"""What a scanner of files has to read: what git tracks, the audited model's own code, and what those import.

A model's code need not be tracked, nor lie in the repository: the policy names functions wherever they are. What a
scanner of Python would have to read and cannot, or does not, is named; it is a doubt.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from audit.identity import INSTALLED
from audit.isolation.code import Named, Sources
from audit.records import Suppression
from audit.repository import WorkingTree, working_tree
from audit.scanners.interface import CodeScanner
from audit.scanners.source import imported, module_files
from audit.session import AuditSession
from audit.tools import site_folders

STANDARD = (sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep)
NOT_THERE = "code of the model is said to lie there, and does not"
SHOWN = 5  # names in a sentence
UNTRACKED = "git does not track it; add it, name it in a .gitignore, or exclude it in the policy"


@dataclass(frozen=True, slots=True)
class Scope:
    """Files to read, relative to the root; how many are tracked; what stays unread, and why; what is excluded."""

    files: tuple[str, ...]
    tracked: int
    unread: tuple[str, ...]
    excluded: tuple[Suppression, ...]


def scope_of(scanner: CodeScanner, session: AuditSession) -> Scope:
    """Return what a scanner has to read.

    Raises:
        ScannerMissing: there is no git that can be trusted.
        ScannerFailed: git does not say what it tracks.
    """
    root, tree = session.root, working_tree(session.root)
    tracked = [name for name in tree.tracked if scanner.wants(root / name)]
    unread = {name: why for name, why in tree.unread.items() if scanner.wants(root / name) or (root / name).is_dir()}
    files, notes = set(tracked), tuple[str, ...]()
    if scanner.beyond_git:
        excluded_so_far = {one.path for one in scanner.excluded(tracked)}
        beyond, notes = _beyond_git(session, [name for name in tracked if name not in excluded_so_far])
        files |= beyond
        unread |= {name: UNTRACKED for name in _left_out(scanner, tree, root, files)}
    excluded = scanner.excluded(sorted({*files, *unread}))
    left = {one.path for one in excluded}
    return Scope(
        files=tuple(sorted(files - left)),
        tracked=len(tracked),
        unread=(*_sentences({name: why for name, why in unread.items() if name not in left}), *notes),
        excluded=excluded,
    )


def _beyond_git(session: AuditSession, tracked: Iterable[str]) -> tuple[set[str], tuple[str, ...]]:
    """Return the files of the model and of what it and tracked files import; and what could not be found out."""
    files, notes = _files_of_the_model(session)
    own = [Path(one) for one in files if not _standard(one)]
    here = {*_named(session), *_served(session), *(session.root / name for name in tracked)}
    followed = imported([*filter(Path.is_file, own), *here], session.root, INSTALLED)
    gone = [f"{_relative(one, session.root)}: {NOT_THERE}" for one in own if not one.is_file()]
    return {_relative(path, session.root) for path in followed}, (*notes, *gone)


def _files_of_the_model(session: AuditSession) -> Sources:
    """Return the files of every function that the policy names, and of the networks that are asked."""
    factories = {name: session.spec(name).factory for name in _networks(session)}
    return session.host.sources_of(
        _references(session),
        [Named(one or "", f"targets.{name}.factory") for name, one in factories.items()],
        session.root,
    )


def _references(session: AuditSession) -> list[str]:
    """Return the functions that the policy names."""
    policy = session.file.policy
    named = [policy.dataset_factory, policy.trainer, policy.trainer_digest]
    named += [spec.factory for spec in policy.targets.values()]
    return [one for one in named if one is not None]


def _named(session: AuditSession) -> set[Path]:
    """Return the files of the functions that the policy names where Python looks, whatever their modules say they are.

    Those that are installed are left to their distributions' records.
    """
    found: set[Path] = set()
    for module in (one.rpartition(":")[0] for one in _references(session)):
        if module.endswith(".py"):
            found |= {path for path in (session.root / module,) if path.is_file()}
        else:
            places = (module_files(Path(one).absolute(), module) for one in sys.path)
            found |= {*next(filter(None, places), ())}
    return {one for one in found if not str(one).startswith(INSTALLED)}


def _networks(session: AuditSession) -> tuple[str, ...]:
    """Return the targets whose networks answer when the audited one is asked."""
    spec = session.spec(session.target_name)
    behind = (spec.wraps, spec.defence.partner if spec.defence is not None else None)
    return tuple(name for name in behind if name is not None) or (session.target_name,)


def _served(session: AuditSession) -> set[Path]:
    """Return the modules in the repository that the policy's commands of a server start."""
    server = session.file.policy.server
    found: set[Path] = set()
    for words in () if server is None else server.model_dump().values():
        for option, module in pairwise(words if isinstance(words, tuple) else ()):
            if option == "-m":
                found |= {*module_files(session.root, f"{module}.__main__"), *module_files(session.root, module)}
    return found


def _left_out(scanner: CodeScanner, tree: WorkingTree, root: Path, files: set[str]) -> Iterator[str]:
    for name in tree.untracked:
        if name.endswith("/") or (name not in files and scanner.wants(root / name)):
            yield name


def _standard(path: str) -> bool:
    """Tell whether a file is of the standard library."""
    return path.startswith(STANDARD) and not path.startswith(tuple(f"{one}{os.sep}" for one in site_folders()))


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to the root, out of it if need be."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(root))).as_posix()


def _sentences(unread: Mapping[str, str]) -> Iterator[str]:
    for why in sorted({*unread.values()}):
        names = sorted(name for name in unread if unread[name] == why)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{', '.join(names[:SHOWN])}{more}: {why}"
