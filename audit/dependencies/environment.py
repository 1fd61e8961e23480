"""The distributions that this interpreter sees, by canonical name, and the places where it looks. Imports nothing."""

from __future__ import annotations

import json
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from audit.records import Record

NAMELESS = "(no name)"


class Installed(Record):
    """One installed distribution.

    ``source`` says how it came when it did not come from an index by its name: editable, directory, archive or version
    control (PEP 610).
    """

    name: str
    version: str | None
    source: str | None = None


Located = tuple[tuple[str, Installed], ...]
"""Distributions, each with the folder that it was found in."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where an interpreter looks for code, by who answers for it; all resolved but ``search``.

    ``prefix`` is the environment, ``site`` its folders of installed packages, ``library`` those of the standard library
    (the interpreter's own, which no RECORD lists and this audit does not judge), ``checkout`` the repository that is
    audited, and ``search`` what the interpreter searches, in order, as it stands.
    """

    prefix: Path
    site: tuple[Path, ...]
    library: tuple[Path, ...]
    checkout: Path
    search: tuple[str, ...]

    @classmethod
    def here(cls, checkout: Path) -> Places:
        """Return those of the running interpreter."""
        prefix, paths = Path(sys.prefix).resolve(), sysconfig.get_paths()
        packages = [paths["purelib"], paths["platlib"], *site.getsitepackages([sys.prefix])]
        sites = dict.fromkeys(Path(one).resolve() for one in packages if Path(one).is_dir())
        standard, major, minor = Path(paths["stdlib"]), *sys.version_info[:2]
        library = [standard, standard.parent / f"python{major}{minor}.zip", standard / "lib-dynload"]
        if native := sysconfig.get_config_var("DESTSHARED"):
            library.append(Path(native))
        return cls(
            prefix,
            tuple(one for one in sites if one != prefix),
            tuple(dict.fromkeys(one.resolve() for one in library)),
            checkout.resolve(),
            tuple(sys.path),
        )

    def told(self, path: str) -> str:
        """Return what a report may say of a path: where it lies in the environment or the checkout, else its name."""
        resolved = Path(path) if Path(path).is_absolute() else Path.cwd() / path
        for folder in (*self.site, self.prefix, self.checkout):
            if resolved.is_relative_to(folder):
                name = folder.name if folder in self.site else "checkout" if folder == self.checkout else "environment"
                return str(Path(name) / resolved.relative_to(folder))
        return f".../{resolved.name}"


def located(places: Iterable[str]) -> Located:
    """Return every distribution in some folders, with the folder that it was found in, each folder once."""
    folders = dict.fromkeys(str(Path(place or ".").resolve()) for place in places)
    return tuple((folder, _read(one)) for folder in folders for one in distributions(path=[folder]))


def installed(found: Located | None = None) -> tuple[Installed, ...]:
    """Return every distribution on the import path, once for each version of it, in order of the name.

    A folder of metadata without a name, as a broken installation leaves it, is among them: it is not nothing. The
    working folder is not searched: what a build left there was not installed. ``found`` are those on the import path,
    where they were read already.
    """
    here = str(Path.cwd().resolve())
    several = {one for folder, one in (located(sys.path) if found is None else found) if folder != here}
    return tuple(sorted(several, key=lambda one: (one.name, one.version or "", one.source or "")))


def _read(distribution: Distribution) -> Installed:
    name: str | None = distribution.metadata["Name"]
    version: str | None = distribution.metadata["Version"]
    return Installed(
        name=canonicalize_name(name) if name else NAMELESS,
        version=version,
        source=_source(distribution.read_text("direct_url.json")),
    )


def _source(direct_url: str | None) -> str | None:
    """Return the kind of a direct URL, never the URL: it holds a path of this machine, or a password."""
    if direct_url is None:
        return None
    try:
        told = json.loads(direct_url)
        if told.get("dir_info", {}).get("editable"):
            return "editable"
        return "directory" if "dir_info" in told else "version control" if "vcs_info" in told else "archive"
    except (ValueError, AttributeError):
        return "unreadable direct URL"
