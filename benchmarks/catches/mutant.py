"""A weakness, as a small patch of the real server, and the server that has it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "model_under_test"


class DoesNotApply(Exception):
    """The text that a patch replaces is not there exactly once."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One replacement: ``old`` must stand in ``file`` (below ``model_under_test/serve``) exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weakness planted in the real server.

    ``check`` is the check that must find it, ``rules`` what it must find at least one of; ``missed`` says why no check
    can, for a weakness that needs a reader.
    """

    name: str
    check: str
    rules: tuple[str, ...]
    patches: tuple[Patch, ...]
    missed: str = ""


def weakness(check: str, rule: str, name: str, *patches: Patch, missed: str = "") -> Mutant:
    """Return a mutant that breaks one rule of a check."""
    return Mutant(name, check, (rule,), patches, missed)


def plant(mutant: Mutant | None, folder: Path) -> Path:
    """Copy the served package below ``folder`` and patch it; returns the folder to start the server from.

    Raises:
        DoesNotApply: the code has changed, and the patch has to follow.
    """
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "release"))
    for patch in mutant.patches if mutant else ():
        file = folder / PACKAGE / "serve" / patch.file
        text = file.read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            raise DoesNotApply(f"{patch.file}: expected once, found {text.count(patch.old)} times: {patch.old!r}")
        file.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    return folder
