"""The threat register: every STRIDE cell is answered, and every claim of mitigation is borne out by this run."""

from __future__ import annotations

import pytest

from audit import examine


@pytest.mark.requirements("register")
def test_threat_register_has_no_hole(requirement, audit, statuses, record):
    """Runs last, for it reads the verdicts of the others."""
    evidence, matrix = examine.stride_register(requirement, audit, statuses)
    record(evidence, matrix=matrix)
