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


@pytest.mark.exhibits("defences")
def test_defence_is_attacked_through(shown, audit, exhibit):
    """What is left of an input defence when the attack goes through it."""
    exhibit(scenarios.defence(shown, audit))


@pytest.mark.exhibits("worst")
def test_worst_case_over_all_attacks_is_shown(shown, audit, exhibit):
    """How many samples no tested attack broke, and which attack broke how many first."""
    for one in scenarios.worst_case(audit):
        exhibit(one)


@pytest.mark.exhibits("retrained")
def test_retrained_weights_are_compared(shown, audit, exhibit):
    """With --retrain: what the recipe gives today, beside what was released."""
    exhibit(scenarios.retrained(shown, audit))
