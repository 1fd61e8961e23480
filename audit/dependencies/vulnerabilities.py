"""DEP-001: every third-party package was looked up, and none has a known vulnerability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from audit.dependencies import pip_audit
from audit.dependencies.advisories import Snapshot
from audit.dependencies.environment import installed
from audit.dependencies.pip_audit import DependencyScan, Pin, Service, Skipped, Vulnerability
from audit.errors import ScannerFailed, ScannerMissing
from audit.examine import control_result, count
from audit.records import Evidence, Measurement, Probe, Suppression
from audit.requirements import AdvisoriesRequirement, AdvisoryWaiver

if TYPE_CHECKING:
    from audit.session import AuditSession

Ask = Callable[[Sequence[Pin]], DependencyScan]


def advisories(requirement: AdvisoriesRequirement, session: AuditSession) -> Evidence:
    """Audit the environment, with the snapshot where one was given; NOT_RUN unless every package was audited."""
    snapshot = session.options.advisories
    if snapshot is None and session.options.offline:
        return _nothing("--offline, and no --advisories DIR was given")
    with pip_audit.service(snapshot) as service:
        try:
            scan = pip_audit.audit_environment(service, session.root)
        except ScannerMissing as error:
            return _nothing(str(error))
        except ScannerFailed as error:
            return Evidence(doubt=str(error))
        evidence = evidence_in(requirement, scan, service, lambda pins: pip_audit.audit_pins(service, pins))
    if snapshot is not None:
        evidence = evidence.model_copy(update={"probes": tuple(_beliefs(requirement, snapshot))})
    session.notes += [f"{requirement.id}: {line}" for line in evidence.tables["waivers_out_of_use"]]
    return evidence


def evidence_in(requirement: AdvisoriesRequirement, scan: DependencyScan, service: Service, ask: Ask) -> Evidence:
    """Return the evidence in a scan; findings count even when packages were skipped, silence does not.

    Args:
        requirement: exceptions, waivers and canaries.
        scan: what the client said of the environment.
        service: who was asked.
        ask: has the same client ask the same service for versions that are not installed.
    """
    unexplained = [one for one in scan.skipped if canonicalize_name(one.package) not in requirement.excepted]
    not_run = _not_run(scan, unexplained)
    standing, waived, unused = _waived(scan.vulnerabilities, requirement.waive)
    findings = tuple(one.finding for one in standing)
    total = len(scan.audited) + len(scan.skipped)
    measured = count(
        findings,
        max(1, len(scan.audited)),
        tool=f"pip-audit {pip_audit.own_version()}",
        service=service.name,
        packages_audited=len(scan.audited),
        packages=total,
    )
    names = ", ".join(f"{one.package} {one.version}" for one in requirement.control.canaries)
    return Evidence(
        measurement=measured if findings or not_run is None else None,
        findings=findings,
        not_run=not_run,
        control=control_result(f"canary {names}", requirement.bound, lambda: _canaries(requirement, ask)),
        suppressions=waived,
        tables={
            "service": service.name,
            "audited": [f"{one.package} {one.version}" for one in scan.audited],
            "skipped": [_explained(one, requirement.excepted) for one in scan.skipped],
            "vulnerable": [_row(one, one not in standing) for one in scan.vulnerabilities],
            # what was not looked up may well be vulnerable still
            "waivers_out_of_use": [] if not_run else [f"{_name(one)}: matches nothing any more" for one in unused],
        },
    )


def _nothing(reason: str) -> Evidence:
    """Return the evidence where no service answered."""
    packages = installed()
    skipped = [{"package": one.name, "version": one.version, "reason": reason, "exception": None} for one in packages]
    return Evidence(
        not_run=f"0 of {len(packages)} packages were audited: {reason}",
        tables={"service": "none", "audited": [], "skipped": skipped, "vulnerable": [], "waivers_out_of_use": []},
    )


def _not_run(scan: DependencyScan, unexplained: Sequence[Skipped]) -> str | None:
    if scan.audited and not unexplained:
        return None
    first = f"; first: {unexplained[0].package}: {unexplained[0].reason}" if unexplained else ""
    total = len(scan.audited) + len(scan.skipped)
    return (
        f"{len(scan.audited)} of {total} packages were audited, {len(unexplained)} skipped without an exception{first}"
    )


def _waived(
    found: Sequence[Vulnerability], waivers: Sequence[AdvisoryWaiver]
) -> tuple[list[Vulnerability], tuple[Suppression, ...], list[AdvisoryWaiver]]:
    """Return what no waiver covers, what one covers, and the waivers that cover nothing."""
    standing, waived, used = [], [], []
    for one in found:
        waiver = next((waiver for waiver in waivers if _covers(waiver, one)), None)
        if waiver is None:
            standing.append(one)
            continue
        used.append(waiver)
        reason = f"{waiver.reason} (waived until {waiver.expires} by {waiver.owner})"
        waived.append(Suppression(tool="pip-audit", what=one.id, path=f"{one.package} {one.version}", reason=reason))
    return standing, tuple(waived), [waiver for waiver in waivers if waiver not in used]


def _covers(waiver: AdvisoryWaiver, one: Vulnerability) -> bool:
    return waiver.id in one.ids and canonicalize_name(waiver.package) == canonicalize_name(one.package)


def _name(waiver: AdvisoryWaiver) -> str:
    return f"the waiver of {waiver.id} for {waiver.package}"


def _canaries(requirement: AdvisoriesRequirement, ask: Ask) -> Measurement:
    """Ask for the canaries.

    Raises:
        ScannerError: the client or its service gave no answer.
        ValueError: the service does not know one of them.
    """
    canaries = requirement.control.canaries
    found = ask([Pin(package=one.package, version=one.version) for one in canaries]).vulnerabilities
    for canary in canaries:
        known = {
            name
            for one in found
            if (canonicalize_name(one.package), one.version) == (canonicalize_name(canary.package), canary.version)
            for name in one.ids
        }
        if canary.advisory not in known:
            got = ", ".join(sorted(known)) or "nothing"
            raise ValueError(f"{canary.package} {canary.version}: this service must know {canary.advisory} (got {got})")
    return count([one.finding for one in found], len(canaries), rules=sorted({one.id for one in found}))


def _beliefs(requirement: AdvisoriesRequirement, snapshot: Snapshot) -> Iterator[Probe]:
    """Yield what must hold of a snapshot before its silence is believed.

    The canaries say that famous advisories are in it; a snapshot of nothing else knows them too. That it is recent, and
    has the size of a whole dump, they do not say, nor that it is the one that somebody reviewed: only a pin does.
    """
    age, most, taken = snapshot.age(), requirement.max_age_days, snapshot.head.taken
    to_come = max(taken, snapshot.newest) > datetime.now(UTC).date()
    told = "one is of a day to come" if to_come else f"it is {age} days old"
    yield Probe(
        name="the advisories are recent",
        passed=not to_come and age <= most,
        detail=f"the snapshot was taken on {taken}, its newest record is of {snapshot.newest}: {told}; at most {most} "
        "days are allowed",
    )
    records, packages = snapshot.records, len(snapshot.by_name)
    yield Probe(
        name="the advisories are a whole dump",
        passed=records >= requirement.min_records and packages >= requirement.min_packages,
        detail=f"{records:,} records in force about {packages:,} packages; at least {requirement.min_records:,} about "
        f"{requirement.min_packages:,} are required",
    )
    if requirement.snapshot_sha256 is not None:
        yield Probe(
            name="the snapshot is the pinned one",
            passed=snapshot.head.sha256 == requirement.snapshot_sha256,
            detail=f"expected SHA-256 {requirement.snapshot_sha256} (got {snapshot.head.sha256})",
        )


def _explained(one: Skipped, excepted: dict[str, str]) -> dict[str, Any]:
    return {**one.model_dump(), "exception": excepted.get(canonicalize_name(one.package))}


def _row(one: Vulnerability, waived: bool) -> dict[str, Any]:
    return {**one.model_dump(mode="json"), "waived": waived}
