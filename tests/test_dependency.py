"""Dependencies: nothing with a known vulnerability is installed."""

from __future__ import annotations

import pytest

from audit import examine


@pytest.mark.requirements("dependency")
def test_environment_has_no_known_vulnerability(requirement, audit, record):
    """Every third-party package was really looked up, and none has an advisory."""
    record(examine.dependency(requirement, audit))
