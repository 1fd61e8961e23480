"""Poisoning: no trigger planted in the training data may steer the answer."""

from __future__ import annotations

import pytest

from audit import examine


@pytest.mark.requirements("poisoning")
def test_attack_success_rate_stays_under_its_ceiling(requirement, audit, record):
    """Stamping the trigger on images of other classes does not turn them into the target class."""
    record(*examine.poisoning(requirement, audit))
