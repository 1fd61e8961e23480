"""Advisories in the Open Source Vulnerability format, and whether one affects a version. Pure.

Source: the OSV schema 1.7 and its evaluation algorithm (ossf.github.io/osv-schema, section "Evaluation"). Where a
version in a record is none by PEP 440, the doubt widens what is affected, never narrows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ECOSYSTEM = "PyPI"
BY_VERSION = ("ECOSYSTEM", "SEMVER")  # a range of type GIT tells commits apart, not versions
BEGINNING = "0"  # as an event: before every version


Item = TypeVar("Item")
Some = Annotated[tuple[Item, ...], BeforeValidator(lambda given: () if given is None else given)]  # null is none


class _Osv(BaseModel):
    """Base of what is read of a record; a record holds more, and newer schemas will."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(_Osv):
    """A point of a range; the schema says one of the four, a record with several means all of them."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class Range(_Osv):
    """A range of versions or commits."""

    type: str
    events: Some[Event] = ()


class Package(_Osv):
    """A package of an ecosystem."""

    ecosystem: str
    name: str


class Affected(_Osv):
    """Versions of one package that are affected."""

    package: Package | None = None  # a record may name a repository only
    versions: Some[str] = ()
    ranges: Some[Range] = ()

    @property
    def name(self) -> str | None:
        """Return the canonical name of a package of this ecosystem."""
        if self.package is None or self.package.ecosystem.partition(":")[0] != ECOSYSTEM:
            return None
        return canonicalize_name(self.package.name)


class Advisory(_Osv):
    """One record, as far as an audit needs it."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,100}$")]
    modified: str
    withdrawn: str | None = None
    aliases: Some[str] = ()
    summary: str | None = None
    affected: Some[Affected] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return the canonical names of the packages that the record is about."""
        return frozenset(one.name for one in self.affected if one.name is not None)

    def affects(self, name: str, version: Version) -> bool:
        """Tell whether a version of a package, by canonical name, is affected; a withdrawn record affects none."""
        if self.withdrawn is not None:
            return False
        return any(one.name == name and is_affected(one, version) for one in self.affected)

    def answer(self, name: str) -> dict[str, Any]:
        """Return the record as a query for one package answers it.

        The name is the canonical one and all ranges are one, since pip-audit compares names as they stand and reads the
        fixed versions of one range only.
        """
        fixed = dict.fromkeys(text for one in self.affected if one.name == name for text in _fixed(one))
        return {
            "schema_version": "1.0.0",
            "id": self.id,
            "aliases": list(self.aliases),
            "summary": self.summary or "N/A",
            "affected": [
                {
                    "package": {"ecosystem": ECOSYSTEM, "name": name},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": text} for text in fixed]}],
                }
            ],
        }


def is_affected(affected: Affected, version: Version) -> bool:
    """Tell whether a version is listed, or lies in a range; its local part (``+cpu``) does not count.

    The local part names a build of a release: 2.5.1+cpu has the holes of 2.5.1, though it sorts after it.
    """
    public = Version(version.public)
    if any(_version(text) == public for text in affected.versions):
        return True
    return any(_contains(one.events, public) for one in affected.ranges if one.type in BY_VERSION)


def _contains(events: Sequence[Event], version: Version) -> bool:
    """Walk the events in order of their versions; those of equal versions in the order of the record."""
    limits = [bound for one in events if one.limit is not None and (bound := _version(one.limit)) is not None]
    if limits and all(version >= limit for limit in limits):
        return False
    points = list(_points(events))
    inside = not any(kind == "introduced" for _, kind in points)  # an end without a beginning
    for bound, kind in sorted(points, key=lambda point: (point[0] is not None, point[0] or version)):
        if kind == "introduced":
            inside = inside or bound is None or version >= bound
        elif bound is not None and (version >= bound if kind == "fixed" else version > bound):
            inside = False
    return inside


def _points(events: Iterable[Event]) -> Iterator[tuple[Version | None, str]]:
    """Yield versions, and what happens there.

    None is before all versions. An end that no version can be made of is left out, so that the range stays open.
    """
    for one in events:
        if one.introduced is not None:
            yield None if one.introduced == BEGINNING else _version(one.introduced), "introduced"
        for kind, text in (("fixed", one.fixed), ("last_affected", one.last_affected)):
            if text is not None and (bound := _version(text)) is not None:
                yield bound, kind


def _fixed(affected: Affected) -> list[str]:
    return [
        str(version)
        for one in affected.ranges
        if one.type in BY_VERSION
        for event in one.events
        if event.fixed is not None and (version := _version(event.fixed)) is not None
    ]


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
