"""(Requirement, session) -> Evidence for the family of dependencies: one function a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit.dependencies.lock import lock
from audit.dependencies.vulnerabilities import advisories
from audit.records import Evidence
from audit.requirements import DependencyRequirement
from audit.session import AuditSession

CHECKS: dict[str, Callable[[Any, AuditSession], Evidence]] = {"advisories": advisories, "lock": lock}


def dependency(requirement: DependencyRequirement, session: AuditSession) -> Evidence:
    """Examine what the requirement's ``check`` names."""
    return CHECKS[requirement.check](requirement, session)
