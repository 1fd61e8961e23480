"""Artifacts: nothing unsafe is loaded."""

from __future__ import annotations

import pytest

from audit import examine


@pytest.mark.requirements("artifact")
def test_weights_are_loaded_safely(requirement, audit, record):
    """The weights are the pinned safetensors, and a malicious pickle is refused before it runs."""
    record(examine.artifact(requirement, audit))
