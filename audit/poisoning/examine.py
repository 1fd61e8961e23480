"""(Requirement, session) -> Evidence for the family of poisoning: one function a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from audit.examine import Examined
from audit.poisoning.catalogue import backdoor
from audit.poisoning.cure import cure
from audit.poisoning.integrity import integrity
from audit.poisoning.training_data import detections_ahead, training_data
from audit.poisoning.unknown import inversions_ahead, unknown_triggers
from audit.requirements import PoisoningRequirement
from audit.session import AuditSession
from audit.workers import Work

CHECKS: dict[str, Callable[[Any, AuditSession], Examined]] = {
    "triggers": backdoor,
    "inversion": unknown_triggers,
    "training-data": training_data,
    "cure": cure,
    "integrity": integrity,
}


AHEAD: dict[str, Callable[[Any, AuditSession], Iterator[Work]]] = {
    "inversion": inversions_ahead,
    "training-data": detections_ahead,
}


def poisoning_ahead(requirement: PoisoningRequirement, session: AuditSession) -> Iterator[Work]:
    """Yield what a requirement's check will ask for, and what may be done before."""
    return AHEAD[requirement.check](requirement, session) if requirement.check in AHEAD else iter(())


def poisoning(requirement: PoisoningRequirement, session: AuditSession) -> Examined:
    """Examine what the requirement's ``check`` names."""
    return CHECKS[requirement.check](requirement, session)
