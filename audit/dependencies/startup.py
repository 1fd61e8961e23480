"""What could put other code in place of the installed packages: the search path, variables, start-up hooks, namesakes.

- ``sys.path``, and PYTHONPATH, which every tool that the audit starts inherits, hold the environment's packages, the
  standard library, the checkout (its root, and folders with tracked files) and what ``.pth`` files of installed
  distributions add, as editable installations do. Every other entry is a finding, the user site (``~/.local``) and the
  packages of the system's Python among them: whatever lies there is imported, and no lock says what it is.
- Two distributions of one name are a finding: the first that is found hides the other from whoever asks for its
  version.
- A module of the checkout that hides an installed one, or one of the standard library, is a finding.
- PYTHONHOME replaces the standard library: a finding. With PYTHONPYCACHEPREFIX bytecode comes from a folder that no
  record covers, and what LD_PRELOAD, LD_AUDIT and DYLD_INSERT_LIBRARIES name is loaded before everything else: doubts,
  since there are honest reasons for them, and nothing here can look inside.
- ``sitecustomize`` and ``usercustomize`` run at every start: a finding unless an installed distribution owns them, or
  they lie in the standard library, where distributors of Python put theirs.

PYTHONSTARTUP is read by interactive sessions only, and changes nothing here. Code that already ran in this process may
have hidden itself from everything that this module asks; it finds what is set up, not what defends itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path

from audit.dependencies.difference import Difference, Inspected
from audit.dependencies.environment import Installed, Located, Places
from audit.dependencies.recorded import Recorded
from audit.errors import ScannerError

HOOKS = ("sitecustomize", "usercustomize")
REPLACES = {"PYTHONHOME": "it replaces the standard library; unset it"}
UNSEEN = {
    "PYTHONPYCACHEPREFIX": "bytecode is taken from a folder that no record covers",
    "LD_PRELOAD": "what it names is loaded into every process before anything else",
    "LD_AUDIT": "what it names is loaded into every process before anything else",
    "DYLD_INSERT_LIBRARIES": "what it names is loaded into every process before anything else",
}
Tracked = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Process:
    """What this process was started with.

    ``variables`` is its environment, ``hooks`` are the files of the start-up hooks that it loaded, by the name of the
    module, and ``tracked`` gives the tracked files below a folder of the checkout, by its relative path.
    """

    variables: Mapping[str, str]
    hooks: Mapping[str, str]
    tracked: Tracked

    @classmethod
    def here(cls, tracked: Tracked) -> Process:
        """Return what the running process was started with."""
        loaded = {name: getattr(sys.modules.get(name), "__file__", None) for name in HOOKS}
        return cls(os.environ, {name: file for name, file in loaded.items() if file is not None}, tracked)


def inspect(places: Places, found: Located, own: Recorded, process: Process) -> Inspected:
    """Look at what comes before the packages that installed distributions recorded, or beside them."""
    variables = process.variables
    doubts = [f"{name} is set: {why}" for name, why in UNSEEN.items() if variables.get(name)]
    differences = [
        Difference("variable", name, f"{name} is set: {why}", path=name)
        for name, why in REPLACES.items()
        if variables.get(name)
    ]
    try:
        differences += _foreign(places, own, process)
    except ScannerError as error:
        doubts.append(f"what the checkout adds to the search path cannot be told: {error}")
    differences += [*_twice(places, found), *_namesakes(places, own), *_hooked(places, own, process.hooks)]
    return Inspected(tuple(differences), tuple(doubts))


def _foreign(places: Places, own: Recorded, process: Process) -> Iterator[Difference]:
    """Yield the entries of the search path that nobody answers for, those of PYTHONPATH by their number."""
    known = {*places.site, *places.library, *_added(places, own)}
    inherited = [entry for entry in process.variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
    numbers = {entry: number for number, entry in enumerate(inherited, start=1)}
    for entry in dict.fromkeys((*inherited, *places.search)):
        folder = Path(entry or ".").resolve()
        if folder in known or _of_the_checkout(places, folder, process.tracked) or _is_placeholder(entry, own):
            continue
        where = f"entry {numbers[entry]} of PYTHONPATH" if entry in numbers else "the search path"
        message = (
            f"{where}: {places.told(str(folder))} is neither the environment's nor the checkout's; what lies there is "
            "imported, and no lock says what it is"
        )
        yield Difference("foreign path", folder.name, message, path=places.told(str(folder)))


def _of_the_checkout(places: Places, folder: Path, tracked: Tracked) -> bool:
    """Tell whether a folder is the checkout's root, or one below it that holds tracked files: those are reviewed."""
    if folder == places.checkout:
        return True
    inside = folder.is_relative_to(places.checkout) and folder.is_dir()
    return inside and bool(tracked(str(folder.relative_to(places.checkout))))


def _is_placeholder(entry: str, own: Recorded) -> bool:
    """Tell whether an entry is no folder but the name by which an editable installation's own finder is asked."""
    name = entry.removeprefix("__editable__.").removesuffix(".finder.__path_hook__")
    if entry != f"__editable__.{name}.finder.__path_hook__" or Path(entry).exists():
        return False
    finder = f"__editable___{name.replace('-', '_').replace('.', '_')}_finder.py"
    return any(Path(path).name == finder for path in own.lines)


def _added(places: Places, own: Recorded) -> set[Path]:
    """Return what the ``.pth`` files of installed distributions add to the search path."""
    added = set()
    for path in own.lines:
        if path.endswith(".pth") and Path(path).parent in places.site and Path(path).is_file():
            for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    added.add((Path(path).parent / line.strip()).resolve())
    return added


def _twice(places: Places, found: Located) -> Iterator[Difference]:
    """Yield the names that several distributions bear."""
    bearers: dict[str, list[tuple[str, Installed]]] = {}
    for folder, one in found:
        bearers.setdefault(one.name, []).append((folder, one))
    for name, several in bearers.items():
        if len(several) > 1:
            told = ", ".join(f"{one.version or '(no version)'} in {places.told(folder)}" for folder, one in several)
            message = f"{len(several)} distributions are called {name}: {told}; the first hides the others"
            yield Difference("shadowed", name, message, path=places.told(several[0][0]))


def _namesakes(places: Places, own: Recorded) -> Iterator[Difference]:
    """Yield the modules of the checkout that hide others, for it is searched before what is installed."""
    owners: dict[str, str] = {}
    for top, owned in _tops(places, own).items():
        if (module := _module(top)) is not None:
            owners[module] = own.owner(owned).split()[0]
    for entry in dict.fromkeys(Path(entry or ".").resolve() for entry in places.search):
        if entry in places.site:
            return
        for path in _modules(entry) if entry.is_relative_to(places.checkout) else ():
            name = _module(path.name) or ""
            if name in owners or name in sys.stdlib_module_names or name in HOOKS:
                where, owner = places.told(str(path)), owners.get(name, "Python")
                message = f"{where} is imported in place of {owner}'s module {name}; rename it"
                yield Difference("hidden module", owner, message, path=where)


def _tops(places: Places, own: Recorded) -> dict[str, str]:
    """Return the files and folders at the top of the installed packages, each with a file in it that is owned."""
    return {
        path[len(folder) :].partition(os.sep)[0]: path
        for folder in (f"{one}{os.sep}" for one in places.site)
        for path in own.lines
        if path.startswith(folder)
    }


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the modules and regular packages in a folder; a folder without ``__init__`` hides nothing installed."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        module = path.is_file() and path.name.endswith(tuple(all_suffixes()))
        if module or any((path / f"__init__{suffix}").is_file() for suffix in all_suffixes()):
            yield path


def _module(name: str) -> str | None:
    """Return the module that a file or folder at the top holds; None where it can hold none."""
    suffix = next((one for one in sorted(all_suffixes(), key=len, reverse=True) if name.endswith(one)), "")
    stem = name.removesuffix(suffix)
    return stem if stem.isidentifier() else None


def _hooked(places: Places, own: Recorded, hooks: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the start-up hooks that were loaded from where neither a distribution nor Python itself put them."""
    for name, file in hooks.items():
        path = Path(file).resolve()
        if str(path) not in own.lines and path.parent not in places.library:
            message = (
                f"{name} ran when Python started, from {places.told(str(path))}, which no distribution owns; remove it"
            )
            yield Difference("start-up hook", name, message, path=places.told(str(path)))
