"""DEP-002: what is installed is what a hash-locked requirements file says, name for name and version for version.

And byte for byte what the distributions recorded, with nothing beside or before it (installation.py, startup.py).
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from audit.dependencies import planted
from audit.dependencies.difference import Difference, Inspected
from audit.dependencies.environment import Installed, Places, installed, located
from audit.dependencies.installation import inspect
from audit.dependencies.startup import Process
from audit.examine import control_result, count
from audit.files import cache_folder
from audit.records import Evidence, Measurement, Suppression
from audit.repository import tracked_files
from audit.requirements import LockRequirement

if TYPE_CHECKING:
    from audit.session import AuditSession

HASH = re.compile(r"\s--hash=(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})(?=\s|$)")
NOWHERE = "no-such-package-in-any-lock"  # what the tampered copy has too many
EXCUSABLE = ("extra", "direct source", "shadowed", "hidden module")


@dataclass(frozen=True, slots=True)
class Entry:
    """One requirement of a lock: where it stands, as it stands, and what it says."""

    line: int
    text: str
    name: str
    version: str
    hashed: bool
    wanted: bool  # its marker holds for this interpreter


@dataclass(frozen=True, slots=True)
class Lock:
    """What a requirements file says, and which of its lines say something else than one version with hashes."""

    entries: tuple[Entry, ...]
    unread: tuple[Difference, ...]

    @property
    def wanted(self) -> dict[str, Entry]:
        """Return the entries for this interpreter by canonical name."""
        return {one.name: one for one in self.entries if one.wanted}


def parse(text: str) -> Lock:
    """Read a lock; strict, for a lock says one thing only: ``name==version ; marker --hash=...``, each with hashes."""
    entries, unread = [], []
    for line, words in _logical_lines(text):
        try:
            entries.append(_entry(line, words))
        except (InvalidRequirement, ValueError) as error:
            said = " ".join(words.split())[:80]
            unread.append(
                Difference("not locked", said, f"expected name==version with hashes, got {said!r} ({error})", line)
            )
    return Lock(tuple(entries), tuple(unread))


def compare(lock: Lock, environment: Sequence[Installed], floors: Mapping[str, str]) -> list[Difference]:
    """Return every difference between an environment and a lock; ``floors`` are lowest versions by canonical name."""
    wanted, here = lock.wanted, {one.name for one in environment}
    found = [*lock.unread, *_doubled(lock)]
    found += [
        Difference("no hash", one.name, f"{one.name} {one.version} stands in the lock without a hash", one.line)
        for one in lock.entries
        if not one.hashed
    ]
    found += [
        Difference("missing", one.name, f"{one.name} {one.version} is in the lock, but not installed", one.line)
        for one in wanted.values()
        if one.name not in here
    ]
    for one in environment:
        found += _of(one, wanted.get(one.name))
    return [*found, *_below(environment, floors)]


def lock(requirement: LockRequirement, session: AuditSession) -> Evidence:
    """Compare the environment with each lock; the nearest one tells what differs."""
    try:
        locks = {name: parse((session.root / name).read_text(encoding="utf-8")) for name in requirement.locks}
    except (OSError, UnicodeDecodeError) as error:
        return Evidence(doubt=f"a lock cannot be read: {error}")
    places, found = Places.here(session.root), located(sys.path)
    process = Process.here(lambda folder: tracked_files(session.root, folder))
    memory = cache_folder(session.root) / f"installed-{sha256(str(places.prefix).encode()).hexdigest()[:16]}.json"
    return evidence_in(
        requirement, locks, installed(found), inspect(places, found, process, requirement.unowned, memory)
    )


def evidence_in(
    requirement: LockRequirement, locks: Mapping[str, Lock], environment: Sequence[Installed], inspected: Inspected
) -> Evidence:
    """Return the evidence in a comparison of an environment with locks, and in the inspection of its files."""
    floors = {str(canonicalize_name(name)): floor for name, floor in requirement.at_least.items()}
    standing, excused = {}, {}
    for name, one in locks.items():
        found = [*compare(one, environment, floors), *inspected.differences]
        excused[name] = [each for each in found if each.rule in EXCUSABLE and each.package in requirement.excepted]
        standing[name] = [each for each in found if each not in excused[name]]
    nearest = min(standing, key=lambda name: len(standing[name]))
    findings = tuple(each.finding(nearest) for each in standing[nearest])
    return Evidence(
        measurement=count(findings, max(1, len(environment)), lock=nearest, packages=len(environment)),
        findings=findings,
        doubt="; ".join(inspected.doubts) or None,
        control=control_result(
            f"a tampered copy of {nearest}", requirement.bound, lambda: _tampered(locks[nearest], environment, nearest)
        ),
        suppressions=(
            *(
                Suppression(tool="lock", what=one.rule, path=one.package, reason=requirement.excepted[one.package])
                for one in excused[nearest]
            ),
            *inspected.accepted,
        ),
        tables={
            "lock": {
                "nearest": nearest,
                "entries": len(locks[nearest].wanted),
                "installed": len(environment),
                "python": platform.python_version(),
                "differences": {name: len(found) for name, found in standing.items()},
                "floors": [_floor_row(name, floor, environment) for name, floor in floors.items()],
                **inspected.shown,
            }
        },
    )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield what belongs together, continuations joined and comments gone, with the line it begins on."""
    start, words = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        start = start if words else number
        words += f" {line.removesuffix(chr(92))}"
        if not line.endswith("\\"):
            if words.strip():
                yield start, words.strip()
            words = ""
    if words.strip():
        yield start, words.strip()


def _entry(line: int, words: str) -> Entry:
    """Return an entry.

    Raises:
        ValueError: it is none, or names no single version.
    """
    said = HASH.sub("", words)
    requirement = Requirement(said)
    pins = [one for one in requirement.specifier if one.operator == "==" and not one.version.endswith(".*")]
    if requirement.url is not None or len(pins) != 1 or len(requirement.specifier) != 1:
        raise ValueError("no single version")
    return Entry(
        line=line,
        text=words,
        name=canonicalize_name(requirement.name),
        version=pins[0].version,
        hashed=said != words,
        wanted=requirement.marker is None or requirement.marker.evaluate(),
    )


def _doubled(lock: Lock) -> Iterator[Difference]:
    names = [one.name for one in lock.entries if one.wanted]
    for one in lock.wanted.values():
        if names.count(one.name) > 1:
            yield Difference(
                "twice", one.name, f"{one.name} stands in the lock {names.count(one.name)} times", one.line
            )


def _of(one: Installed, entry: Entry | None) -> Iterator[Difference]:
    """Yield what is wrong with an installed distribution, by the entry that the lock has for it."""
    version = one.version or "(no version)"
    if entry is None:
        yield Difference("extra", one.name, f"{one.name} {version} is installed, but not in the lock")
    elif not _same(one.version, entry.version):
        message = f"{one.name} {version} is installed, where the lock says {entry.version}"
        yield Difference("other version", one.name, message, entry.line)
    if one.source is not None:
        message = f"{one.name} {version} was installed from a direct source ({one.source}), which no hash vouches for"
        yield Difference("direct source", one.name, message, entry.line if entry else None)


def _same(version: str | None, other: str) -> bool:
    try:
        return version is not None and Version(version) == Version(other)
    except InvalidVersion:
        return version == other


def _below(environment: Sequence[Installed], floors: Mapping[str, str]) -> Iterator[Difference]:
    for name, floor in floors.items():
        versions = [one.version for one in environment if one.name == name]
        for version in versions or ["no version"]:
            if not _reaches(version, floor):
                message = f"{name}: at least {floor} is required, {version or '(no version)'} is installed"
                yield Difference("below floor", name, message)


def _reaches(version: str | None, floor: str) -> bool:
    try:
        return version is not None and Version(version) >= Version(floor)
    except InvalidVersion:
        return False


def _floor_row(name: str, floor: str, environment: Sequence[Installed]) -> dict[str, Any]:
    return {"package": name, "floor": floor, "installed": [one.version for one in environment if one.name == name]}


def _tampered(lock: Lock, environment: Sequence[Installed], name: str) -> Measurement:
    """Return what a comparison with a tampered copy of the lock finds, and an inspection of a tampered environment.

    Raises:
        ValueError: something that was changed was not found, or the environment has too little in common with the lock.
    """
    here = {one.name: one for one in environment}
    usable = [
        one
        for one in lock.wanted.values()
        if one.hashed and one.name in here and _same(here[one.name].version, one.version)
    ]
    if len(usable) < 4:
        raise ValueError(f"{name}: expected four entries that are installed as locked (got {len(usable)})")
    gone, other, bare, low = usable[:4]
    changed = {
        gone: "",
        other: other.text.replace(f"=={other.version}", "==0.0.0.dev0", 1),
        bare: HASH.sub("", bare.text),
    }
    copy = [changed.get(one, one.text) for one in lock.entries] + [f"{NOWHERE}==1.0 --hash=sha256:{'0' * 64}"]
    direct = Installed(name=low.name, version=low.version, source="editable")
    found = compare(
        parse("\n".join(copy)), [*(one for one in environment if one.name != low.name), direct], {low.name: "9999!0"}
    )
    expected = [
        ("extra", gone.name), ("other version", other.name), ("no hash", bare.name), ("missing", NOWHERE),
        ("below floor", low.name), ("direct source", low.name),
    ]  # fmt: skip
    for each in expected:
        if each not in {(one.rule, one.package) for one in found}:
            raise ValueError(f"{each[0]}: the tampered copy has it at {each[1]}, and it was not found")
    found += planted.found()
    return count([one.finding(name) for one in found], len(found), rules=sorted({one.rule for one in found}))
