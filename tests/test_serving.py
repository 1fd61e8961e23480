"""Serving: the server of the audited model holds against those who reach it over HTTP."""

from __future__ import annotations

import pytest

from audit.checks import examine


@pytest.mark.requirements("serving")
def test_served_model_withstands_its_clients(requirement, audit, record):
    """A real server process keeps answering rightly, tells nothing of its inside and loses no record."""
    record(*examine(requirement, audit))
