"""The distributions that this interpreter sees, by canonical name. Reads metadata, imports nothing."""

from __future__ import annotations

import json
import sys
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


def installed() -> tuple[Installed, ...]:
    """Return every distribution on the import path, once for each version of it, in order of the name.

    A folder of metadata without a name, as a broken installation leaves it, is among them: it is not nothing. The
    working folder is not searched: what a build left there was not installed.
    """
    here = Path.cwd().resolve()
    places = [place for place in sys.path if place and Path(place).resolve() != here]
    found = {_read(distribution) for distribution in distributions(path=places)}
    return tuple(sorted(found, key=lambda one: (one.name, one.version or "", one.source or "")))


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
