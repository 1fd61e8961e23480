"""Poisoning: no trigger planted in the training data may steer the answer."""

from __future__ import annotations

import pytest

from audit.backdoor import backdoor


@pytest.mark.requirements("poisoning")
def test_excess_attack_success_rate_stays_under_its_ceiling(requirement, audit, record):
    """No trigger turns images of other classes into one class, beyond what it does to clean networks."""
    record(*backdoor(requirement, audit))
