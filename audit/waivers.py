"""Waivers: read, and held to the policy and to the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from audit.errors import PolicyError
from audit.policy import Policy, PolicyFile
from audit.records import Record, Waiver
from audit.requirements import AdvisoriesRequirement
from audit.terms import too_long
from audit.yaml_files import Read, read_yaml


class _Waivers(Record):
    waivers: tuple[Waiver, ...]


def read_waivers(path: Path, read: Read = Path.read_bytes) -> tuple[Waiver, ...]:
    """Read waivers, whatever they name and whether or not they have ended.

    Raises:
        PolicyError: they are missing or malformed.
    """
    return read_yaml(path, _Waivers, read)[0].waivers


def load_waivers(path: Path, policy: Policy, today: date | None = None) -> tuple[Waiver, ...]:
    """Read the waivers; none where the file is absent.

    Raises:
        PolicyError: a waiver is malformed, expired, lasts too long, or names no requirement of the policy.
    """
    if not path.is_file():
        return ()
    waivers = read_waivers(path)
    known = {requirement.id for requirement in policy.requirements}
    for index, waiver in enumerate(waivers):
        where = f"{path}: waivers[{index}]"
        if waiver.id not in known:
            raise PolicyError(f"{where}.id: expected a requirement of the policy (got {waiver.id})")
        if waiver.id in [other.id for other in waivers[:index]]:
            raise PolicyError(f"{where}.id: every id once (got {waiver.id} twice)")
        _hold_to_its_end(where, waiver.id, waiver.expires, today)
    return waivers


def check_advisory_waivers(file: PolicyFile, today: date | None = None) -> None:
    """Hold the waivers of single advisories to their last days.

    Raises:
        PolicyError: one is expired, lasts too long, or stands there twice.
    """
    for index, one in enumerate(file.policy.requirements):
        waivers = one.waive if isinstance(one, AdvisoriesRequirement) else ()
        for place, waiver in enumerate(waivers):
            where = f"{file.path}: requirements[{index}].waive[{place}]"
            if (waiver.id, waiver.package) in [(other.id, other.package) for other in waivers[:place]]:
                raise PolicyError(f"{where}.id: every advisory of a package once (got {waiver.id} twice)")
            _hold_to_its_end(where, waiver.id, waiver.expires, today)


def _hold_to_its_end(where: str, name: str, expires: date, today: date | None) -> None:
    today = today or datetime.now(UTC).date()
    if expires < today:
        raise PolicyError(f"{where}.expires: {name} expired on {expires}; fix the cause or renew it")
    if limit := too_long(expires, today):
        raise PolicyError(f"{where}.expires: a waiver lasts {limit} (got {expires})")
