"""Where outside programs come from: folders that only their owners may change, and that are not audited themselves.

A name looked up on PATH may be anybody's program: one that the audited repository brings along, or one that another
user of the machine put into a folder which everybody may write.
"""

from __future__ import annotations

import os
import shutil
import stat
from functools import cache
from pathlib import Path

from audit.errors import ScannerMissing

SYSTEM = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin")  # looked into before PATH


def find_program(name: str, root: Path | None = None) -> str:
    """Return the path of a program, from a system folder or from PATH.

    Args:
        name: the program.
        root: the audited repository; no program is taken from there.

    Raises:
        ScannerMissing: there is none, or only one that is not to be trusted.
    """
    trusted, refused = _sorted_out(_search_path(), root)
    for folder in trusted:
        found = shutil.which(name, path=folder)
        if found is not None and _trustworthy(Path(found).resolve(), root):
            return found
    if any(shutil.which(name, path=folder) for folder in (*trusted, *refused)):
        raise ScannerMissing(
            f"{name}: expected on PATH, outside of the audited repository and where only its owner may change it; "
            "the one that is there lies elsewhere, and was not run"
        )
    raise ScannerMissing(f"{name}: expected on PATH, not found; install it")


def trusted_path(root: Path | None = None) -> str:
    """Return a PATH of the folders that programs may be taken from."""
    return os.pathsep.join(_sorted_out(_search_path(), root)[0])


def _search_path() -> tuple[str, ...]:
    return (*SYSTEM, *os.environ.get("PATH", os.defpath).split(os.pathsep))


@cache
def _sorted_out(folders: tuple[str, ...], root: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part folders into those to take programs from, and the others."""
    there = [one for one in dict.fromkeys(folders) if Path(one).is_dir()]
    trusted = tuple(one for one in there if Path(one).is_absolute() and _owned(Path(one), root))
    return trusted, tuple(one for one in there if one not in trusted)


def _trustworthy(program: Path, root: Path | None) -> bool:
    return _owned(program.parent, root) and not program.stat().st_mode & stat.S_IWOTH


def _owned(folder: Path, root: Path | None) -> bool:
    """Tell whether a folder lies outside of the repository, and only owners may change or replace it."""
    real = folder.resolve()
    if root is not None and any(one.is_relative_to(root.resolve()) for one in (folder, real)):
        return False
    return not real.stat().st_mode & stat.S_IWOTH and not any(map(_open_to_renaming, real.parents))


def _open_to_renaming(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
