"""Python source: which files hold it, whatever they are called, whether it can be read, and what it imports.

Nothing is imported or run to find out.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audit.scanners.notebook import script

SUFFIXES = (".py", ".pyw")
NOTEBOOK = ".ipynb"
PACKED = (".pyc", ".pyo", ".pyz", ".pyzw", ".egg", ".whl")  # Python that no scanner of source reads
_START = 512  # bytes of a file without a known suffix that are looked at
_SHEBANG = re.compile(
    rb"#![^\n]*(python|pypy|\buv\b|\bpipx\b)"
    # what begins with a string to Python, and to the shell is a command that starts Python, there or further down
    rb"|#![^\n]*sh\b[^\n]*\n(?:[ \t]*(?:#[^\n]*)?\n)*['\"](?s:.*?)exec[^\n]*python"
)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass(frozen=True, slots=True)
class Source:
    """What a Python source imports, as (dots of a relative import, dotted name), and why it cannot be parsed."""

    imports: frozenset[tuple[int, str]]
    problem: str | None = None


def is_python(path: Path) -> bool:
    """Tell whether a file is Python by its suffix, a notebook, packed Python, or a script by its first line."""
    suffix = path.suffix.lower()
    if suffix in (*SUFFIXES, NOTEBOOK, *PACKED):
        return True
    try:
        with path.open("rb") as file:
            return _SHEBANG.match(file.read(_START)) is not None
    except IsADirectoryError:
        return False
    except OSError:
        return suffix == ""  # nobody knows what it holds


@cache
def parsed(content: bytes) -> Source:
    """Parse Python source, once for all scanners of a run."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Source(frozenset(), str(error) or type(error).__name__)
    return Source(frozenset(_imports(tree.body)))


def _imports(statements: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield what statements import, those inside of functions, classes and blocks too."""
    for one in statements:
        if isinstance(one, ast.Import):
            yield from ((0, alias.name) for alias in one.names)
        elif isinstance(one, ast.ImportFrom):
            module = one.module or ""
            yield one.level, module
            yield from ((one.level, f"{module}.{alias.name}".lstrip(".")) for alias in one.names)
        for body in _BODIES:
            inner = getattr(one, body, ())
            yield from _imports(inner) if isinstance(inner, list) else ()


def imported(files: Iterable[Path], root: Path, installed: Sequence[str]) -> set[Path]:
    """Return the files that Python sources import, and that those import in turn, the given ones among them.

    A name is looked for in the root, beside the file, and where the file's outermost package lies: that is where Python
    looks when the file is a script or a module of a package. What is installed is not followed.

    Args:
        files: Python sources; others import nothing.
        root: the audited repository.
        installed: how paths of installed files begin.
    """
    found: set[Path] = set()
    waiting, files_of, outermost = list(files), cache(module_files), cache(_outermost)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if str(path).startswith(tuple(installed)):
            continue
        waiting += files_of(path.parent, "__init__")
        for dots, name in _read(path).imports:
            relative = path.parents[min(dots, len(path.parents)) - 1]
            for base in {relative} if dots else {root, path.parent, outermost(path.parent)}:
                waiting += files_of(base, name)
    return found


def _read(path: Path) -> Source:
    """Return what a file imports; nothing where it cannot be read, which whoever scans it says."""
    try:
        content = path.read_bytes()
        return parsed(script(content).text.encode("utf-8") if path.suffix.lower() == NOTEBOOK else content)
    except (OSError, ValueError):
        return Source(frozenset())


def _outermost(folder: Path) -> Path:
    """Return the folder from which a module in this one is imported by its full name."""
    return _outermost(folder.parent) if (folder / "__init__.py").is_file() else folder


def module_files(base: Path, name: str) -> tuple[Path, ...]:
    """Return the files that importing a dotted name from a folder runs: its packages' and its own."""
    found, place = [], os.fspath(base)
    for part in name.split(".") if name else ():
        place = os.path.join(place, part)  # noqa: PTH118  # a few thousand of these in a run
        found += [f"{place}/__init__.py", f"{place}.py", f"{place}.pyc"]  # Python runs .pyc files without their source
        if not os.path.isdir(place):  # noqa: PTH112
            break
    return tuple(Path(one) for one in found if os.path.isfile(one))  # noqa: PTH113
