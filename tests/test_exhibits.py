"""Exhibits: what the report shows beside the verdicts. Nothing here is judged."""

from __future__ import annotations

import pytest

from audit import scenarios


@pytest.mark.exhibits("scenarios")
def test_scenario_is_shown(shown, audit, exhibit):
    """One row of the scenario table."""
    exhibit(scenarios.scenario(shown, audit))


@pytest.mark.exhibits("curves")
def test_curve_is_shown(shown, audit, exhibit):
    """One plot of accuracy against eps."""
    exhibit(scenarios.curve(shown, audit))
