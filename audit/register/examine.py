"""(Requirement, session, verdicts so far) -> Evidence, and what the report shows of the register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from audit.errors import IntegrityError
from audit.examine import control_result, count
from audit.records import Evidence, Finding, Measurement, Status, Stride
from audit.register import Register, Seen, cell_count, holes, matrix, out_of_date, read_register
from audit.requirements import BaseRequirement, CoverageRequirement, DatesRequirement, RegisterRequirement

if TYPE_CHECKING:
    from audit.session import AuditSession

# what each control holds, and its check has to find there
IN_THE_HOLE = frozenset(
    {
        "missing",
        "unconnected",
        "unanswered",
        "duplicate",
        "reference",
        "unknown",
        "refuted",
        "unproved",
        "beside the point",
    }
)
OUT_OF_DATE = frozenset({"expired", "too long", "stale", "not yet"})
# whatever the run says, the control names a requirement that is not met, one that is and counters another category than
# the threat's, and one that does not exist
CONTROL = Seen(
    {"ABC-001": Status.NOT_MET, "ABC-002": Status.MET},
    {"ABC-001": (Stride.TAMPERING,), "ABC-002": (Stride.DENIAL_OF_SERVICE,)},
    elements=("absent",),
)


def register(
    requirement: RegisterRequirement,
    session: AuditSession,
    verdicts: Mapping[str, Status],
    today: date | None = None,
) -> tuple[Evidence, dict[str, Any]]:
    """Examine the register; also returns what the report shows of it.

    Args:
        requirement: the check, and the file.
        session: the policy's ids, and what is waived.
        verdicts: of this run so far, by requirement id.
        today: the day to compare dates with; the present one (UTC) if None.
    """
    today = today or datetime.now(UTC).date()
    policy = session.file.policy
    elements = next((one.elements for one in policy.requirements if isinstance(one, CoverageRequirement)), ())
    seen = Seen(verdicts, _countered(policy.requirements), session.options.waived, elements)
    claimed = read_register(session.root / requirement.register_file)
    bad = requirement.control.register_file

    def read_bad() -> Measurement:
        return _bad(requirement, read_register(session.root / bad), today)

    found = _found(requirement, claimed, seen, today, requirement.register_file)
    evidence = Evidence(
        measurement=count(found, _looked_at(requirement, claimed), **_settings(requirement, claimed, today)),
        findings=tuple(found),
        control=control_result(bad, requirement.bound, read_bad),
    )
    return evidence, matrix(claimed, seen, today)


def _countered(requirements: Sequence[BaseRequirement]) -> dict[str, tuple[Stride, ...]]:
    """Return the categories that each requirement counters; a register that vouched for itself would prove nothing."""
    return {one.id: () if isinstance(one, RegisterRequirement) else one.stride for one in requirements}


def _found(requirement: RegisterRequirement, claimed: Register, seen: Seen, today: date, path: str) -> list[Finding]:
    if isinstance(requirement, DatesRequirement):
        return out_of_date(claimed, today, requirement.stale_days, path)
    return holes(claimed, seen, path)


def _bad(requirement: RegisterRequirement, bad: Register, today: date) -> Measurement:
    """Count what the same check finds in the control; it must find every kind of fault that is in there."""
    found = _found(requirement, bad, CONTROL, today, requirement.control.register_file)
    expected = OUT_OF_DATE if isinstance(requirement, DatesRequirement) else IN_THE_HOLE
    overlooked = expected - {one.rule for one in found}
    if overlooked:
        raise IntegrityError(
            f"expected to find what is wrong with the control (overlooked: {', '.join(sorted(overlooked))})"
        )
    return count(found, _looked_at(requirement, bad), rules=_rules(found))


def _looked_at(requirement: RegisterRequirement, claimed: Register) -> int:
    if isinstance(requirement, CoverageRequirement):
        return cell_count(claimed)
    return len(claimed.elements) + sum(threat.expires is not None for threat in claimed.threats())


def _settings(requirement: RegisterRequirement, claimed: Register, today: date) -> dict[str, Any]:
    if isinstance(requirement, CoverageRequirement):
        return {"cells": cell_count(claimed), "threats": len(list(claimed.threats()))}
    expiries = [threat.expires for threat in claimed.threats() if threat.expires is not None]
    return {
        "today": today.isoformat(),
        "stale_days": requirement.stale_days,
        "oldest_review": min(element.reviewed for element in claimed.elements).isoformat(),
        "acceptances": len(expiries),
        "first_to_expire": min(expiries).isoformat() if expiries else "none",
    }


def _rules(found: Sequence[Finding]) -> list[str]:
    return sorted({one.rule for one in found})
