"""Static analysis: no known weakness in our own source."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("static")
def test_source_has_no_findings(requirement, audit, record):
    """A scanner that read every tracked Python file finds nothing."""
    record(*examine(requirement, audit))
