"""The matrix: every cell has a state in words, the least favourable of its threats."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit.records import Status, Stride
from audit.register import STATES, Register, Seen, matrix
from tests.unit.audit.register.conftest import ACCEPTED, NOT_APPLICABLE, THREAT, TODAY, plain

KNOWN = {"EVA-001": (Stride.TAMPERING,), "EVA-002": (Stride.TAMPERING,), "PERF-001": (Stride.DENIAL_OF_SERVICE,)}
MET, NOT_MET, NOT_RUN, UNDECIDED = Status.MET, Status.NOT_MET, Status.NOT_RUN, Status.INCONCLUSIVE


def cell(register, verdicts, today=TODAY, **seen):
    return matrix(register, Seen(verdicts, KNOWN, **seen), today)["rows"][0]["cells"]["T"]


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        pytest.param({"EVA-001": MET, "EVA-002": MET}, "mitigated", id="all met"),
        pytest.param({"EVA-001": MET, "EVA-002": NOT_RUN}, "mitigated in part", id="one not run"),
        pytest.param({"EVA-001": MET}, "mitigated in part", id="one absent"),
        pytest.param({"EVA-001": MET, "EVA-002": UNDECIDED}, "mitigated in part", id="one undecided"),
        pytest.param({"EVA-001": MET, "EVA-002": NOT_MET}, "refuted", id="one not met"),
        pytest.param({"EVA-001": UNDECIDED}, "unproved", id="none met"),
        pytest.param({}, "unproved", id="nothing ran"),
    ],
)
def test_cell_says_what_the_run_makes_of_the_claim(register, verdicts, state):
    assert cell(register(), verdicts)["state"] == state


def test_cell_of_a_waived_requirement_says_so(register):
    shown = cell(register(), {"EVA-001": NOT_MET, "EVA-002": MET}, waived=frozenset({"EVA-001"}))
    assert shown["state"] == "waived"
    assert [one["status"] for one in shown["threats"][0]["requirements"]] == ["waived", "MET"]


def test_cell_of_which_only_a_waived_requirement_or_one_beside_the_point_is_left_is_unproved(register):
    assert cell(register(), {"EVA-001": NOT_MET}, waived=frozenset({"EVA-001"}))["state"] == "unproved"
    claimed = register(THREAT | {"requirements": ["EVA-001", "PERF-001"]})
    assert cell(claimed, {"EVA-001": NOT_RUN, "PERF-001": MET})["state"] == "unproved"
    assert cell(claimed, {"EVA-001": MET, "PERF-001": MET})["state"] == "mitigated"


def test_requirement_that_was_not_examined_is_called_so(register):
    shown = cell(register(), {"EVA-001": NOT_RUN})
    assert [one["status"] for one in shown["threats"][0]["requirements"]] == ["not examined", "not examined"]


def test_cell_shows_the_least_favourable_of_its_threats(register):
    claimed = register(THREAT, ACCEPTED | {"id": "T-FILE-T-2"})
    shown = cell(claimed, {"EVA-001": MET, "EVA-002": MET})
    assert [one["state"] for one in shown["threats"]] == ["mitigated", "accepted"]
    assert shown["state"] == "accepted"
    assert cell(claimed, {"EVA-001": NOT_MET})["state"] == "refuted"
    assert cell(register(ACCEPTED), {}, TODAY + timedelta(days=1))["state"] == "expired"


def test_every_cell_has_a_state(register):
    row = matrix(register(cells={"T": [THREAT], "S": NOT_APPLICABLE}), Seen({}, KNOWN), TODAY)["rows"][0]
    assert [row["cells"][one.value]["state"] for one in Stride] == [
        "not applicable", "unproved", "unanswered", "unanswered", "unanswered", "unanswered",
    ]  # fmt: skip
    assert {one["state"] for one in row["cells"].values()} <= set(STATES)


def test_diagram_and_unclaimed_requirements_come_along():
    shown = matrix(Register.model_validate(plain()), Seen({}, KNOWN | {"EVA-003": (Stride.TAMPERING,)}), TODAY)
    assert shown["unclaimed"] == ["PERF-001", "EVA-003"]
    assert [one["kind"] for one in shown["diagram"]["nodes"]] == ["party", "store", "store"]
    assert shown["diagram"]["flows"][0] == {"source": "model-file", "target": "service", "data": "weights"}
