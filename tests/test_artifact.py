"""Artifacts: nothing unsafe is loaded."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("artifact")
def test_no_unsafe_model_file_is_loaded(requirement, audit, record):
    """The weights are the pinned ones, malicious files are refused before they run, signatures hold."""
    record(*examine(requirement, audit))
