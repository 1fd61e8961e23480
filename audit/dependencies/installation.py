"""Whether the installed files are those that their distributions recorded, and which files no distribution owns.

A file that is not what RECORD says, or is gone, is a finding; one that cannot be read is a doubt. A finding, too, is
whatever lies in a folder of installed packages and belongs to no distribution, for Python imports and runs it all the
same (``.pth`` files at every start), with these exceptions:

- ``__pycache__/*.pyc``: Python wrote it when the module was first imported, or uv when it was installed, and believes
  it while it bears the time and size of its source; without its source it is not imported. Bytecode that says of itself
  that it is never to be held against its source (PEP 552, unchecked) is a finding.
- What the policy accepts by digest under ``unowned``. ``_virtualenv.py`` and ``_virtualenv.pth``, a hook that runs at
  every start, belong there if anywhere: today's virtualenv and uv write them for no Python that runs this audit, and
  those of older releases differ.

INSTALLER, REQUESTED, direct_url.json, uv_cache.json, the ``.pth`` file and the finder of an editable installation, and
``distutils-precedence.pth`` need none: pip and uv list them in the RECORD of their distribution, with digests. What
virtualenv copies into an environment, pip above all, has scripts without them: a doubt, until it is installed again.

A RECORD is as easily rewritten as what it lists, and bytecode is not compiled again to compare it. This finds what was
edited, added, lost, half upgraded or laid over, not who forges the records as well: against that, make the environment
anew from the lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from audit.dependencies import recorded, startup
from audit.dependencies.difference import Difference, Inspected, listed
from audit.dependencies.digests import NO_FILE, Digests, digests
from audit.dependencies.environment import Located, Places
from audit.dependencies.recorded import Recorded
from audit.dependencies.startup import Process
from audit.records import Suppression
from audit.requirements import UnownedFile

UNCHECKED = (1, 0, 0, 0)  # flags of a .pyc: with a digest of its source (bit 0) that is not to be looked at (bit 1)


def inspect(
    places: Places, found: Located, process: Process, accepted: Iterable[UnownedFile], memory: Path
) -> Inspected:
    """Inspect what is installed, and what could come in its place.

    Args:
        places: where the interpreter looks.
        found: the distributions that it finds there.
        process: what this process was started with.
        accepted: files without an owner that may lie among the installed ones.
        memory: the file in which digests are remembered.
    """
    own = recorded.read(places)
    return _files_of(places, own, accepted, memory) + startup.inspect(places, found, own, process)


def _files_of(places: Places, own: Recorded, accepted: Iterable[UnownedFile], memory: Path) -> Inspected:
    loose, bytecode, doubts = _walked(places, own)
    given = [(str(folder / one.path), one) for one in accepted for folder in places.site]
    candidates = {path for path, _ in given} & set(loose)
    wanted = [path for path, lines in own.lines.items() if any(line.sha256 for line in lines)]
    read = digests((*wanted, *sorted(candidates)), memory)
    taken = {path: one for path, one in given if path in candidates and read.known.get(path) == one.sha256}
    unreadable = [path for path, why in read.unreadable.items() if why != NO_FILE]
    if unreadable:
        doubts.append(f"{len(unreadable)} installed files cannot be read: {_names(places, unreadable)}")
    if own.unvouched:
        advice = "install what owns them again, with pip or uv"
        doubts.append(f"no RECORD has the SHA-256 of {_names(places, own.unvouched)}: {advice}")
    if not read.known:
        doubts.append("no installed file was held to a record")
    return Inspected(
        differences=(
            *own.differences,
            *_held(places, own, read, wanted),
            *_unowned(places, [path for path in loose if path not in taken], read),
            *_unchecked(places, bytecode),
        ),
        doubts=(*own.doubts, *doubts),
        accepted=tuple(
            Suppression(tool="lock", what="unowned", path=places.told(path), reason=one.reason)
            for path, one in taken.items()
        ),
        shown={"files": len(wanted), "bytes": read.size, "bytes_read": read.fresh},
    )


def _held(places: Places, own: Recorded, read: Digests, wanted: Iterable[str]) -> Iterator[Difference]:
    """Yield, for each distribution, the files that are not what it recorded, and those that are gone."""
    wrong: dict[tuple[str, str], list[str]] = {}
    for path in wanted:
        if path in read.gone:
            wrong.setdefault(("gone", own.owner(path)), []).append(path)
        elif read.unreadable.get(path) == NO_FILE or (
            path in read.known and all(line.sha256 != read.known[path] for line in own.lines[path])
        ):
            wrong.setdefault(("changed", own.owner(path)), []).append(path)
    for (rule, owner), paths in wrong.items():
        are = "are not there" if rule == "gone" else "are not what was installed"
        message = f"{owner}: {len(paths)} files of its RECORD {are}: {_names(places, paths)}"
        yield Difference(rule, owner.split()[0], message, path=places.told(min(paths)))


def _walked(places: Places, own: Recorded) -> tuple[list[str], list[str], list[str]]:
    """Return the files that no distribution owns, all bytecode, and doubts about folders that cannot be listed."""
    loose: list[str] = []
    bytecode: list[str] = []
    doubts: list[str] = []
    for path in (path for folder in places.site for path in _files(str(folder), doubts, places)):
        if recorded.is_bytecode(path):
            bytecode.append(path)
        elif path not in own.lines and not path.startswith(tuple(f"{one}{os.sep}" for one in own.metadata)):
            loose.append(path)
    return loose, bytecode, doubts


def _files(top: str, doubts: list[str], places: Places) -> Iterator[str]:
    """Yield everything below a folder but folders; a link to a folder is not followed, and is yielded."""
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        yield entry.path
        except OSError as error:
            doubts.append(f"{places.told(folder)} cannot be listed ({error.strerror})")


def _unowned(places: Places, loose: Iterable[str], read: Digests) -> Iterator[Difference]:
    """Yield what no distribution owns, by the file or folder at the top that it lies in."""
    tops: dict[str, list[str]] = {}
    for path in loose:
        folder = next(str(one) for one in places.site if path.startswith(f"{one}{os.sep}"))
        tops.setdefault(os.path.join(folder, path[len(folder) + 1 :].partition(os.sep)[0]), []).append(path)  # noqa: PTH118
    for top, paths in sorted(tops.items()):
        name = Path(top).name
        starts = ", and runs whenever Python starts" if name.endswith(".pth") else ""
        digest = f" (SHA-256 {read.known[top]})" if top in read.known else ""
        advice = "remove it, or accept it under unowned"
        message = f"{name}{digest}: no distribution owns {_names(places, paths)}{starts}; {advice}"
        yield Difference("unowned", name, message, path=places.told(top))


def _unchecked(places: Places, bytecode: Iterable[str]) -> Iterator[Difference]:
    """Yield the bytecode that Python believes whatever its source says."""
    for path in bytecode:
        if _flags(path) == UNCHECKED:
            message = f"{places.told(path)}: bytecode that Python never holds against its source; remove it"
            yield Difference("unchecked bytecode", Path(path).name, message, path=places.told(path))


def _flags(path: str) -> tuple[int, ...]:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123  # twelve thousand of them
            return tuple(stream.read(8)[4:])
    except OSError:
        return ()


def _names(places: Places, paths: list[str]) -> str:
    return listed([places.told(path) for path in paths])
