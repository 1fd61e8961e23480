"""What the distributions of an environment say that they installed: RECORD (PEP 376, PEP 627). Reads metadata only."""

from __future__ import annotations

import binascii
import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from audit.dependencies.difference import Difference, listed
from audit.dependencies.environment import Places

URL_SAFE = bytes.maketrans(b"-_", b"+/")
METADATA = (".dist-info", ".egg-info")
# a file cannot hold its own digest, nor that of its signatures (PEP 427); words of the installer that nothing runs
WITHOUT_DIGEST = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED")
MARKER = ".virtualenv"  # of a distribution that virtualenv copied into the environment; empty


@dataclass(frozen=True, slots=True)
class Line:
    """A file that a distribution owns. ``sha256`` is hexadecimal, or None where RECORD has none."""

    owner: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """Every file that some distribution owns, by its absolute path, and what is wrong with the records themselves.

    Several distributions may own one file. ``metadata`` are the folders of distributions that have no record.
    """

    lines: dict[str, list[Line]] = field(default_factory=dict)
    metadata: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def unvouched(self) -> list[str]:
        """Return the files that are there, and of which no record has a digest, though it should."""
        without = [path for path, lines in self.lines.items() if not any(line.sha256 for line in lines)]
        return [path for path in without if not _needs_none(path) and Path(path).is_file()]

    def owner(self, path: str) -> str:
        """Return who owns a file first."""
        return self.lines[path][0].owner


def read(places: Places) -> Recorded:
    """Read the RECORD of every distribution in the folders of installed packages."""
    recorded = Recorded()
    for site in places.site:
        for folder in sorted(site.iterdir()):
            if folder.suffix in METADATA:
                _add(folder, places, recorded)
    return recorded


def is_bytecode(path: str) -> bool:
    """Tell whether a file is one that Python writes when a module is first imported (PEP 3147)."""
    return path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__"  # noqa: PTH119, PTH120


def _needs_none(path: str) -> bool:
    return is_bytecode(path) or Path(path).name in WITHOUT_DIGEST or path.endswith(MARKER)


def _add(folder: Path, places: Places, recorded: Recorded) -> None:
    name, _, version = folder.stem.partition("-")
    owner, package = f"{canonicalize_name(name)} {version}", str(canonicalize_name(name))
    where = places.told(str(folder))
    try:
        lines = list(csv.reader((folder / "RECORD").read_text(encoding="utf-8").splitlines(), strict=True))
    except (FileNotFoundError, NotADirectoryError):
        message = f"{owner}: its metadata are installed without a RECORD, so nothing says which files are its own"
        recorded.differences.append(Difference("no record", package, message, path=where))
        recorded.metadata.append(str(folder))
        return
    except OSError as error:
        recorded.doubts.append(f"{owner}: its RECORD cannot be read ({error.strerror})")
        return
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"{owner}: expected a RECORD, path, digest and size in each line ({error})"
        recorded.differences.append(Difference("no record", package, message, path=where))
        return
    outside = []
    for words in filter(None, lines):
        path = os.path.normpath(f"{folder.parent}{os.sep}{words[0]}")
        if path.startswith(f"{places.prefix}{os.sep}"):
            digest = words[1] if len(words) == 3 else ""
            recorded.lines.setdefault(path, []).append(Line(owner, _hexadecimal(digest)))
        else:
            outside.append(places.told(path))
    if outside:
        message = f"{owner}: its RECORD lists files outside of the environment, which were not read: {listed(outside)}"
        recorded.differences.append(Difference("bad record", package, message, path=where))


def _hexadecimal(digest: str) -> str | None:
    """Return a digest as RECORD writes it, ``sha256=`` and base64 without padding, in hexadecimal; None for others."""
    algorithm, _, text = digest.partition("=")
    try:
        raw = binascii.a2b_base64(text.encode().translate(URL_SAFE) + b"=")
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if algorithm == "sha256" and len(raw) == 32 else None
