"""Dependencies: nothing with a known vulnerability is installed, and nothing but what the lock says."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("dependency")
def test_environment_is_the_locked_one_and_has_no_known_vulnerability(requirement, audit, record):
    """Every third-party package was really looked up, none has an advisory, all are locked: what the policy checks."""
    record(*examine(requirement, audit))
