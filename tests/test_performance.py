"""Performance: a defence that ruins the classifier is no defence."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("performance")
def test_accuracy_keeps_its_floor(requirement, audit, record):
    """On unchanged images the target is right often enough to be of use, on every class where the bound says so."""
    record(*examine(requirement, audit))
