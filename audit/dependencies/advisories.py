"""A dated snapshot of advisories: a folder that is checked whole before anything is believed of it.

    DIR/snapshot.json       schema_version, taken, source, records, sha256
    DIR/records/ID.json     the records of an OSV dump, as they are there

``sha256`` is that of the lines ``SHA-256  ID.json`` of all records, in order of their names: what ``sha256sum *.json``
prints, hashed again. A record that is missing, changed or added makes the whole folder an error.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import Field, ValidationError

from audit.dependencies.osv import ECOSYSTEM, Advisory
from audit.errors import DataError
from audit.files import write_atomically
from audit.records import Record, Sha256
from audit.yaml_files import explain

HEAD, RECORDS = "snapshot.json", "records"
MAKE_IT_AGAIN = "make the snapshot again: python -m audit advisories DUMP.zip DIR --taken DATE"
LARGEST_RECORD = 8 * 2**20  # bytes; the largest of the ecosystem's records has some hundred thousand
LARGEST_DUMP = 2**30
MOST_RECORDS = 500_000


class Head(Record):
    """What ``snapshot.json`` says: the day (UTC) on which the dump was fetched, from where, and what it held."""

    schema_version: Literal[1]
    taken: date
    source: Annotated[str, Field(min_length=3)]
    records: Annotated[int, Field(ge=1)]
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder of advisories that was read and found whole.

    ``newest`` is the day of the last change to any record, and the age counts from there: when it was taken is what its
    maker says, and an old dump may be taken today. ``by_name`` has the ``records`` in force, those that were not
    withdrawn, by package.
    """

    head: Head
    newest: date
    records: int
    by_name: Mapping[str, tuple[Advisory, ...]]

    def age(self, today: date | None = None) -> int:
        """Return how many days ago its newest record was changed, in UTC; negative for a day to come."""
        return ((today or datetime.now(UTC).date()) - self.newest).days

    @property
    def text(self) -> str:
        """Return what a reader needs to know of it, in one line."""
        return (
            f"snapshot of {self.head.taken}, {self.head.records:,} records, the newest of {self.newest}, "
            f"{self.records:,} in force about {len(self.by_name):,} packages, from {self.head.source}"
        )

    def query(self, name: str, version: str) -> list[dict[str, Any]]:
        """Return the advisories that affect a version of a package, as the OSV query API returns them.

        Raises:
            ValueError: the version is none by PEP 440.
        """
        try:
            asked, canonical = Version(version), canonicalize_name(name)
        except InvalidVersion as error:
            raise ValueError(f"version: expected one by PEP 440 (got {version!r})") from error
        return [one.answer(canonical) for one in self.by_name.get(canonical, ()) if one.affects(canonical, asked)]


def read(folder: Path) -> Snapshot:
    """Read a snapshot, holding every byte of it to its digest.

    Raises:
        DataError: it is missing, damaged, or holds something that is no record of the ecosystem.
    """
    head = _head(folder / HEAD)
    digest, advisories = _Digest(), []
    for path in _listed(folder / RECORDS):
        content = _bounded(path)
        digest.add(path.name, content)
        advisories.append(_parsed(content, path.name, folder))
    if (len(advisories), digest.hex) != (head.records, head.sha256):
        raise DataError(
            f"{folder}: expected {head.records} records with SHA-256 {head.sha256} (got {len(advisories)} with "
            f"{digest.hex}): records were changed, added or lost; {MAKE_IT_AGAIN}"
        )
    return _snapshot(head, advisories, folder)


def make(dump: Path, folder: Path, taken: date, source: str) -> Snapshot:
    """Turn a dump of the ecosystem, a .zip with one JSON file a record, into a snapshot folder.

    Members are read with limits and written under their record's own id; nothing is unpacked by the name it has in the
    archive.

    Raises:
        DataError: the dump is damaged or holds something else, the folder exists, or the date cannot be right.
    """
    if folder.exists():
        raise DataError(f"{folder}: expected a folder that is not there yet (got one that is)")
    if taken > datetime.now(UTC).date():
        raise DataError(f"--taken: expected a day that has come, in UTC (got {taken})")
    digest, advisories, contents = _Digest(), [], {}
    for name, content in sorted(_members(dump)):
        if name in contents:
            raise DataError(f"{dump}: {name}: every record once (got it twice)")
        contents[name] = content
        digest.add(name, content)
        advisories.append(_parsed(content, name, dump))
    if not advisories:
        raise DataError(f"{dump}: expected one JSON file a record (got an empty archive)")
    head = Head(schema_version=1, taken=taken, source=source, records=len(advisories), sha256=digest.hex)
    snapshot = _snapshot(head, advisories, dump)
    for name, content in contents.items():
        write_atomically(folder / RECORDS / name, content)
    # last, so that a folder that was not finished is not taken for one
    write_atomically(folder / HEAD, (head.model_dump_json(indent=2) + "\n").encode())
    return snapshot


class _Digest:
    """SHA-256 over the digests of files that come in order of their names."""

    def __init__(self) -> None:
        self._lines = hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        self._lines.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())

    @property
    def hex(self) -> str:
        return self._lines.hexdigest()


def _head(path: Path) -> Head:
    try:
        content = path.read_bytes()
        return Head.model_validate_json(content)
    except OSError as error:
        raise DataError(f"{path}: expected the head of a snapshot (got {error.strerror}); {MAKE_IT_AGAIN}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error, _plain(content))}; {MAKE_IT_AGAIN}") from error


def _plain(content: bytes) -> Any:
    """Return what JSON holds, for the path of an error in it."""
    try:
        return json.loads(content)
    except ValueError:
        return {}


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder}: expected a folder of records (got {error.strerror}); {MAKE_IT_AGAIN}") from error


def _bounded(path: Path) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise DataError(f"{path}: expected a file with a record (got something else); {MAKE_IT_AGAIN}")
    if path.stat().st_size > LARGEST_RECORD:
        raise DataError(f"{path}: expected at most {LARGEST_RECORD:,} bytes (got {path.stat().st_size:,})")
    return path.read_bytes()


def _members(dump: Path) -> Iterator[tuple[str, bytes]]:
    total = 0
    try:
        with zipfile.ZipFile(dump) as archive:
            members = archive.infolist()
            if len(members) > MOST_RECORDS:
                raise DataError(f"{dump}: expected at most {MOST_RECORDS:,} members (got {len(members):,})")
            for member in members:
                with archive.open(member) as stream:  # what the archive says of sizes is not relied on
                    content = stream.read(LARGEST_RECORD + 1)
                total += len(content)
                if len(content) > LARGEST_RECORD or total > LARGEST_DUMP:
                    raise DataError(
                        f"{dump}: {member.filename!r}: expected at most {LARGEST_RECORD:,} bytes a record and "
                        f"{LARGEST_DUMP:,} in all (got more)"
                    )
                yield member.filename, content
    except OSError as error:
        raise DataError(f"{dump}: expected a .zip file (got {error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{dump}: expected a .zip file, whole and not encrypted (got {error})") from error


def _parsed(content: bytes, name: str, where: Path) -> Advisory:
    try:
        advisory = Advisory.model_validate_json(content)
    except ValidationError as error:
        raise DataError(f"{where}: {name!r}: expected an OSV record: {explain(error, _plain(content))}") from error
    if name != f"{advisory.id}.json":
        raise DataError(f"{where}: {name!r}: expected the record {name.removesuffix('.json')!r} (got {advisory.id!r})")
    return advisory


def _snapshot(head: Head, advisories: Iterable[Advisory], where: Path) -> Snapshot:
    by_name: dict[str, list[Advisory]] = {}
    newest, records = date.min, 0
    for one in advisories:
        newest = max(newest, _day(one, where))
        names = one.names if one.withdrawn is None else ()
        records += bool(names)
        for name in names:
            by_name.setdefault(name, []).append(one)
    if not by_name:
        raise DataError(f"{where}: expected records in force about {ECOSYSTEM} packages (got none of {head.records})")
    if newest > head.taken:
        raise DataError(
            f"{where}: taken: expected no day before that of the newest record, {newest} (got {head.taken})"
        )
    return Snapshot(head, newest, records, {name: tuple(found) for name, found in by_name.items()})


def _day(advisory: Advisory, where: Path) -> date:
    """Return the day of the last change, in UTC."""
    try:
        return datetime.fromisoformat(advisory.modified).astimezone(UTC).date()
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: {advisory.id}: modified: expected an RFC 3339 time (got {advisory.modified!r})"
        ) from error
