"""Jupyter notebooks (nbformat 4) as Python: the code cells, one below the other, and where each line comes from.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HEAD = ("# code cells of a notebook", "#")  # two lines, so that no cell's first line can declare an encoding
_LINE_END = re.compile(r"\r\n|\r|\n")
_SETTING = re.compile(r"\s*%(matplotlib|load_ext|reload_ext|autoreload|config|precision)( [\w.= '-]*)?")
_TIMED = re.compile(r"(\s*)%%?(time|timeit|prun|capture)(\s+-\w+( \d+)?)*(\s+|$)")


@dataclass(frozen=True, slots=True)
class Script:
    """A notebook's code as one Python source.

    ``places`` has (cell, line in the cell) for each line, both from 1, (0, 0) where it comes from none. ``unread`` says
    which cells are not in it, and why.
    """

    text: str
    places: tuple[tuple[int, int], ...]
    unread: tuple[str, ...]

    def place(self, line: int | None) -> str:
        """Return where a line of the source comes from, in words."""
        cell, inside = self.places[line - 1] if line and line <= len(self.places) else (0, 0)
        return f"cell {cell}, line {inside}" if cell else "some cell"


def script(content: bytes) -> Script:
    """Return the Python in a notebook.

    Cells that are no Python, because they are wrong or because they ask IPython for something else (a shell, another
    language), are named, and the others read all the same.

    Raises:
        ValueError: it is no notebook of format 4 in Python.
    """
    lines, places, unread = list(HEAD), [(0, 0)] * len(HEAD), []
    for number, text in _code_cells(content):
        try:
            cell = _python(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unread.append(f"cell {number} is not read: {error or type(error).__name__}")
            continue
        lines += cell
        places += [(number, line) for line in range(1, len(cell) + 1)]
    return Script("\n".join(lines) + "\n", tuple(places), tuple(unread))


def _code_cells(content: bytes) -> Iterator[tuple[int, str]]:
    try:
        notebook: dict[str, Any] = json.loads(content)
        if notebook["nbformat"] != 4:
            raise ValueError(f"expected nbformat 4, got {notebook['nbformat']!r}")
        about = notebook.get("metadata", {})
        language = (about.get("language_info") or {}).get("name") or (about.get("kernelspec") or {}).get("language")
        if language not in (None, "python"):
            raise ValueError(f"expected Python, got a notebook that says it is in {language!r}")
        for number, cell in enumerate(notebook["cells"], start=1):
            if cell["cell_type"] == "code":
                yield number, "".join(cell["source"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"expected a notebook, got something else ({type(error).__name__}: {error})") from error


def _python(text: str) -> list[str]:
    """Return the lines of a cell as Python; those that only set IPython up are left empty.

    Raises:
        SyntaxError: it is none.
    """
    lines = _LINE_END.split(text)
    if not _parses(lines):
        lines = [_without_magic(line) for line in lines]
        ast.parse("\n".join(lines))
    return lines


def _parses(lines: list[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


def _without_magic(line: str) -> str:
    if _SETTING.fullmatch(line):
        return ""
    return _TIMED.sub(r"\1", line, count=1) if _TIMED.match(line) else line
