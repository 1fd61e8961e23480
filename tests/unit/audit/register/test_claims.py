"""Holes in a register, and what is out of date in it: each kind is found, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit.records import Status, Stride
from audit.register import Seen, holes, out_of_date, unclaimed
from tests.unit.audit.register.conftest import ACCEPTED, NOT_APPLICABLE, THREAT, TODAY

T, D = (Stride.TAMPERING,), (Stride.DENIAL_OF_SERVICE,)
KNOWN = {"EVA-001": T, "EVA-002": T, "PERF-001": D}
MET, NOT_MET, NOT_RUN, UNDECIDED = Status.MET, Status.NOT_MET, Status.NOT_RUN, Status.INCONCLUSIVE
GREEN = {"EVA-001": MET, "EVA-002": MET}


def rules(register, verdicts=GREEN, **seen):
    return [one.rule for one in holes(register, Seen(verdicts, KNOWN, **seen), "stride.yaml")]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param(GREEN, [], id="all met"),
        pytest.param({"EVA-001": MET, "EVA-002": NOT_RUN}, [], id="one met is enough"),
        pytest.param({"EVA-001": MET, "EVA-002": UNDECIDED}, [], id="one met, one undecided"),
        pytest.param({"EVA-001": MET, "EVA-002": NOT_MET}, ["refuted"], id="one not met"),
        pytest.param({"EVA-001": NOT_MET, "EVA-002": NOT_MET}, ["refuted", "refuted", "unproved"], id="none met"),
        pytest.param({"EVA-001": NOT_RUN}, ["unproved"], id="not examined"),
        pytest.param({"EVA-001": UNDECIDED, "EVA-002": UNDECIDED}, ["unproved"], id="undecided"),
        pytest.param({}, ["unproved"], id="nothing ran"),
    ],
)
def test_claim_is_held_against_the_verdicts_of_the_run(register, verdicts, expected):
    assert rules(register(), verdicts) == expected


def test_finding_names_threat_requirements_and_their_verdicts(register):
    (found,) = holes(register(), Seen({"EVA-001": UNDECIDED}, KNOWN), "stride.yaml")
    assert found.message == (
        "T-FILE-T-1: none of its requirements is MET in this run: EVA-001 (INCONCLUSIVE), EVA-002 (not examined)"
    )


@pytest.mark.parametrize("verdict", [NOT_MET, NOT_RUN, UNDECIDED, MET])
def test_waived_requirement_proves_nothing(register, verdict):
    waived = frozenset({"EVA-001"})
    assert rules(register(), {"EVA-001": verdict}, waived=waived) == ["unproved"]
    assert rules(register(), {"EVA-001": verdict, "EVA-002": MET}, waived=waived) == []


def test_finding_says_which_requirement_is_waived(register):
    seen = Seen({"EVA-001": NOT_MET, "EVA-002": NOT_RUN}, KNOWN, frozenset({"EVA-001"}))
    (found,) = holes(register(), seen, "stride.yaml")
    assert found.message.endswith("is MET in this run: EVA-001 (waived), EVA-002 (not examined)")


def test_met_requirement_that_counters_another_category_proves_nothing(register):
    """A register whose every threat cited the floor of clean accuracy was green once."""
    claimed = register(THREAT | {"requirements": ["PERF-001"]})
    (found,) = holes(claimed, Seen({"PERF-001": MET}, KNOWN), "stride.yaml")
    assert (found.rule, found.message) == (
        "beside the point",
        "T-FILE-T-1: none of its requirements that are MET counters tampering (T): PERF-001 (counters D); "
        "name one that does, move the threat to its cell, or accept it",
    )


@pytest.mark.parametrize(
    ("verdicts", "waived", "expected"),
    [
        pytest.param({"EVA-001": MET, "PERF-001": MET}, [], [], id="one counters it"),
        pytest.param({"EVA-001": NOT_RUN, "PERF-001": MET}, [], ["beside the point"], id="that one was not examined"),
        pytest.param({"EVA-001": UNDECIDED, "PERF-001": MET}, [], ["beside the point"], id="that one is undecided"),
        pytest.param({"EVA-001": NOT_MET, "PERF-001": MET}, ["EVA-001"], ["beside the point"], id="that one is waived"),
        pytest.param({"EVA-001": NOT_MET, "PERF-001": MET}, [], ["refuted", "beside the point"], id="not met"),
    ],
)
def test_requirement_beside_it_may_counter_something_else(register, verdicts, waived, expected):
    claimed = register(THREAT | {"requirements": ["EVA-001", "PERF-001"]})
    assert rules(claimed, verdicts, waived=frozenset(waived)) == expected


def test_category_is_that_of_the_cell_and_not_of_the_id(register):
    claimed = register(cells={"D": [THREAT]} | {letter: NOT_APPLICABLE for letter in "STRIE"})
    assert rules(claimed) == ["beside the point"]


@pytest.mark.parametrize(
    ("threats", "expected"),
    [
        pytest.param([THREAT | {"requirements": ["EVA-001", "EVA-999"]}], ["unknown"], id="unknown requirement"),
        pytest.param([THREAT, THREAT], ["duplicate"], id="an id twice"),
        pytest.param([THREAT | {"references": ["AML.T9999"]}], ["reference"], id="no id of ATLAS"),
        pytest.param([ACCEPTED | {"references": ["CWE-79", "what"]}], ["reference"], id="malformed, accepted"),
        pytest.param([ACCEPTED], [], id="accepted"),
    ],
)
def test_hole_is_found(register, threats, expected):
    assert rules(register(*threats)) == expected


@pytest.mark.parametrize("cells", [{"T": [THREAT]}, {"T": [THREAT]} | {letter: [] for letter in "SRIDE"}])
def test_cell_that_is_missing_or_empty_is_a_hole(register, cells):
    assert rules(register(cells=cells)) == ["unanswered"] * 5


def test_missing_element_is_a_hole(register):
    assert rules(register(), elements=("model-file", "service")) == []
    assert rules(register(), elements=("model-file", "web-page")) == ["missing"]


def test_element_without_a_flow_is_a_hole(register):
    cut = register().model_copy(update={"flows": ()})
    assert rules(cut) == ["unconnected", "unconnected"]


def test_requirements_that_no_threat_names_are_listed_and_not_a_hole(register):
    seen = Seen(GREEN, KNOWN | {"EVA-003": T})
    assert unclaimed(register(), seen) == ["PERF-001", "EVA-003"]
    assert holes(register(), seen, "stride.yaml") == []


def dated(register, today, stale_days=30):
    return [(one.rule, one.message) for one in out_of_date(register, today, stale_days, "stride.yaml")]


def test_acceptance_holds_through_its_last_day_and_no_longer(register):
    claimed = register(ACCEPTED)
    assert dated(claimed, TODAY) == []
    expected = ("expired", "T-FILE-T-1: accepted until 2026-11-21 only; fix it, or decide again")
    assert dated(claimed, TODAY + timedelta(days=1), 365) == [expected]


def test_review_is_stale_after_so_many_days(register):
    claimed = register(reviewed="2026-10-22")
    assert dated(claimed, TODAY) == []
    expected = ("stale", "model-file: reviewed 31 days ago, 30 allowed; review it again")
    assert dated(claimed, TODAY + timedelta(days=1)) == [expected]


def test_review_in_the_future_is_believed_for_no_more_than_a_time_zone(register):
    assert dated(register(reviewed="2026-11-22"), TODAY) == []
    assert dated(register(reviewed="2026-11-23"), TODAY) == [
        ("not yet", "model-file: reviewed on 2026-11-23, which is yet to come")
    ]


@pytest.mark.parametrize("status", ["accepted", "transferred"])
def test_acceptance_and_transfer_until_9999_are_findings_that_say_the_latest_day(register, status):
    claimed = register(ACCEPTED | {"status": status, "expires": "9999-12-31"})
    message = (
        f"T-FILE-T-1: {status} until 9999-12-31; that may last at most 366 days, so until 2027-11-22 at the latest"
    )
    assert dated(claimed, TODAY) == [("too long", message)]
    assert dated(register(ACCEPTED | {"status": status, "expires": "2027-11-22"}), TODAY) == []


def test_transfer_ends_as_an_acceptance_does(register):
    claimed = register(ACCEPTED | {"status": "transferred"})
    assert dated(claimed, TODAY) == []
    expected = ("expired", "T-FILE-T-1: transferred until 2026-11-21 only; fix it, or decide again")
    assert dated(claimed, TODAY + timedelta(days=1), 365) == [expected]
