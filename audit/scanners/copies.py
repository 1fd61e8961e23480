"""Copies of Python sources under names that every scanner takes for Python, and the way back to the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from audit.records import Finding, Suppression
from audit.scanners.notebook import Script, script
from audit.scanners.source import NOTEBOOK, PACKED, SUFFIXES


@dataclass(slots=True)
class Copies:
    """A folder with copies; what stands in it for which file; and what could not be copied as Python."""

    folder: Path
    originals: dict[str, str] = field(default_factory=dict)
    notebooks: dict[str, Script] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return the copies' names, relative to the folder."""
        return list(self.originals)

    def original(self, finding: Finding) -> Finding:
        """Return a finding in a copy as one in the file; in a notebook it names the cell."""
        changed: dict[str, str | None] = {"path": self.originals.get(finding.path, finding.path)}
        if finding.path in self.notebooks:
            place = self.notebooks[finding.path].place(finding.line)
            changed |= {"line": None, "message": f"{place}: {finding.message}"}
        return finding.model_copy(update=changed)

    def original_suppression(self, one: Suppression) -> Suppression:
        """Return what is suppressed in a copy as suppressed in the file."""
        changed: dict[str, str | None] = {"path": self.originals.get(one.path, one.path)}
        if one.path in self.notebooks:
            place = self.notebooks[one.path].place(one.line)
            changed |= {"line": None, "reason": f"{place}: {one.reason}"}
        return one.model_copy(update=changed)

    def original_text(self, text: str) -> str:
        """Return what a tool says, with the files' own names in it."""
        for name, original in self.originals.items():
            if name != original:
                text = text.replace(name, original)
        return text


def copied(root: Path, files: Iterable[str], folder: Path) -> Copies:
    """Copy sources into a folder, notebooks as their code.

    Args:
        root: what the names are relative to; they may lead out of it.
        files: Python sources of any kind.
        folder: an empty folder.
    """
    copies = Copies(folder)
    for name in files:
        try:
            _copy(root, name, copies)
        except (OSError, ValueError) as error:
            copies.errors.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
    return copies


def _copy(root: Path, name: str, copies: Copies) -> None:
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in PACKED:
        raise ValueError("packed or compiled Python, which no scanner of source reads")
    content = (root / name).read_bytes()
    if b"\0" in content:
        raise ValueError("not text, so no scanner of source reads it")
    copy = _free_name(name, copies)
    if suffix.lower() == NOTEBOOK:
        found = script(content)
        content = found.text.encode("utf-8")
        copies.notebooks[copy] = found
        copies.errors += [f"{name}: {one}" for one in found.unread]
    copies.originals[copy] = name
    target = copies.folder / copy
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _free_name(name: str, copies: Copies) -> str:
    """Return the name itself where it lies in the root and ends like Python, else one like it that is not taken."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    copy = name if inside else f"outside/{path.name}"
    copy = copy if path.suffix == SUFFIXES[0] else f"{copy}.py"
    while copy in copies.originals:
        copy = f"again/{copy}"
    return copy
