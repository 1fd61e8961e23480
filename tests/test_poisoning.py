"""Poisoning: nothing planted in the training data may steer the answer, or lie there unseen."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("poisoning")
def test_no_poison_and_no_backdoor_is_found(requirement, audit, record):
    """Known triggers, unknown triggers, training data, the cure, the data's integrity: whatever the policy checks."""
    record(*examine(requirement, audit))
