"""The threat register: every cell is answered, this run bears out every claim, and no decision is out of date."""

from __future__ import annotations

import pytest

from audit.register.examine import register


@pytest.mark.requirements("register")
def test_threat_register_holds(requirement, audit, statuses, record):
    """Runs last, for it reads the verdicts of the others."""
    evidence, matrix = register(requirement, audit, statuses)
    record(evidence, matrix=matrix)
