"""(Requirement, session) -> Evidence for the family of poisoning: one function a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit.examine import Examined
from audit.poisoning.catalogue import backdoor
from audit.poisoning.cure import cure
from audit.poisoning.integrity import integrity
from audit.poisoning.training_data import training_data
from audit.poisoning.unknown import unknown_triggers
from audit.requirements import PoisoningRequirement
from audit.session import AuditSession

CHECKS: dict[str, Callable[[Any, AuditSession], Examined]] = {
    "triggers": backdoor,
    "inversion": unknown_triggers,
    "training-data": training_data,
    "cure": cure,
    "integrity": integrity,
}


def poisoning(requirement: PoisoningRequirement, session: AuditSession) -> Examined:
    """Examine what the requirement's ``check`` names."""
    return CHECKS[requirement.check](requirement, session)
