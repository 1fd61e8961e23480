"""Exhibits: what the report shows beside the verdicts. Nothing here is judged."""

from __future__ import annotations

import pytest

from audit import scenarios


@pytest.mark.exhibits("scenarios")
def test_scenario_is_shown(shown, audit, exhibit):
    """One row of the scenario table."""
    exhibit(*scenarios.scenario(shown, audit))


@pytest.mark.exhibits("curves")
def test_curve_is_shown(shown, audit, exhibit):
    """One plot of accuracy against eps."""
    exhibit(scenarios.curve(shown, audit))


@pytest.mark.exhibits("retrained")
def test_retrained_weights_are_compared(shown, audit, exhibit):
    """With --retrain: what the recipe gives today, beside what was released."""
    exhibit(scenarios.retrained(shown, audit))
