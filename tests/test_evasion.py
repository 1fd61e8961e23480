"""Evasion: small changes of the input must not change the answer."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("evasion")
def test_robust_accuracy_keeps_its_floor(requirement, audit, record):
    """An adversary within the stated budget cannot push accuracy below the floor."""
    record(*examine(requirement, audit))
