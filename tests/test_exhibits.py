"""Exhibits: what the report shows beside the verdicts. Nothing here is judged."""

from __future__ import annotations

import pytest

from audit import scenarios
from audit.poisoning import scenarios as poisoning
from audit.poisoning import unknown as inversion


@pytest.mark.exhibits("scenarios")
def test_scenario_is_shown(shown, audit, exhibit):
    """One row of the scenario table."""
    exhibit(*scenarios.scenario(shown, audit))


@pytest.mark.exhibits("seen")
def test_what_was_shown_for_the_verdicts_is_shown(shown, audit, exhibit):
    """A row of the scenario table for every attack that a requirement ran, the control's included."""
    for one in scenarios.seen(audit):
        exhibit(one)


@pytest.mark.exhibits("curves")
def test_curve_is_shown(shown, audit, exhibit):
    """One plot of accuracy against eps."""
    exhibit(scenarios.curve(shown, audit))


@pytest.mark.exhibits("defences")
def test_defence_is_attacked_through(shown, audit, exhibit):
    """What is left of an input defence when the attack goes through it."""
    exhibit(scenarios.defence(shown, audit))


@pytest.mark.exhibits("poisonings")
def test_poisoning_is_shown(shown, audit, exhibit):
    """One row of the table of poisonings, each a network of its own, beside clean ones."""
    for one in poisoning.poisoned(shown, audit.file.policy.exhibits.poisonings, audit):
        exhibit(one)


@pytest.mark.exhibits("triggers")
def test_triggers_are_shown(shown, audit, exhibit):
    """A picture of every trigger of the catalogue."""
    kept, arrays = poisoning.gallery(shown, audit)
    exhibit(kept, arrays=arrays)


@pytest.mark.exhibits("inverted")
def test_inverted_triggers_are_shown(shown, audit, exhibit):
    """A picture of the smallest trigger found for each class, of the audited target and of the control."""
    for name in dict.fromkeys((audit.target_name, shown.control.target)):
        kept, arrays = inversion.sheet(shown, audit, name)
        exhibit(kept, arrays=arrays)


@pytest.mark.exhibits("runtime")
def test_runtime_detection_is_shown(shown, audit, exhibit):
    """How many triggered images STRIP recognises at inference."""
    exhibit(poisoning.runtime(shown, audit))


@pytest.mark.exhibits("worst")
def test_worst_case_over_all_attacks_is_shown(shown, audit, exhibit):
    """How many samples no tested attack broke, and which attack broke how many first."""
    for one in scenarios.worst_case(audit):
        exhibit(one)


@pytest.mark.exhibits("retrained")
def test_retrained_weights_are_compared(shown, audit, exhibit):
    """With --retrain: what the recipe gives today, beside what was released."""
    exhibit(scenarios.retrained(shown, audit))
