"""The STRIDE register: each kind of hole is found, and the shipped one has none."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path

import pytest
import yaml

from audit.errors import PolicyError
from audit.policy import load_policy
from audit.records import Status, Stride
from audit.register import Register, Seen, cell_count, findings, matrix, read_register

ROOT = Path(__file__).parents[3]
KNOWN = frozenset({"EVA-001", "EVA-002"})
NOT_APPLICABLE = {"not_applicable": "There is nothing here to spoof or tamper with."}
THREAT = {
    "id": "T-FILE-T-1",
    "threat": "Somebody replaces the weight file.",
    "mitigation": "digest",
    "status": "mitigated",
    "requirements": ["EVA-001", "EVA-002"],
}
CELLS = {letter: NOT_APPLICABLE for letter in "SRIDE"} | {"T": [THREAT]}


def register(**changes):
    cells = copy.deepcopy(CELLS) | changes
    return Register.model_validate(
        {"schema_version": 1, "elements": [{"id": "model-file", "title": "Model file", "cells": cells}]}
    )


def rules(claimed, verdicts, **seen):
    return [finding.rule for finding in findings(claimed, Seen(verdicts, KNOWN, **seen), "stride.yaml")]


@pytest.mark.parametrize(
    ("changes", "verdicts", "expected"),
    [
        pytest.param({}, {"EVA-001": Status.MET, "EVA-002": Status.MET}, [], id="answered and proved"),
        pytest.param({}, {"EVA-001": Status.MET, "EVA-002": Status.NOT_RUN}, [], id="one met is enough"),
        pytest.param({}, {"EVA-001": Status.MET, "EVA-002": Status.NOT_MET}, ["refuted"], id="one not met"),
        pytest.param({}, {"EVA-001": Status.NOT_RUN}, ["unproved"], id="none met"),
        pytest.param({}, {}, ["unproved"], id="nothing ran"),
        pytest.param({"T": []}, {}, ["unanswered"], id="empty cell"),
        pytest.param(
            {"T": [THREAT | {"requirements": ["EVA-001", "EVA-999"]}]},
            {"EVA-001": Status.MET},
            ["unknown"],
            id="unknown requirement",
        ),
        pytest.param({"T": [THREAT, THREAT]}, {"EVA-001": Status.MET}, ["duplicate"], id="an id twice"),
    ],
)
def test_hole_is_found(changes, verdicts, expected):
    assert rules(register(**changes), verdicts) == expected


def test_missing_cell_is_a_hole():
    cells = {letter: NOT_APPLICABLE for letter in "STRID"}
    claimed = Register.model_validate({"schema_version": 1, "elements": [{"id": "x", "title": "X", "cells": cells}]})
    assert rules(claimed, {}) == ["unanswered"]


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        pytest.param(THREAT | {"requirements": []}, "mitigated needs mitigation and requirements", id="no requirement"),
        pytest.param(THREAT | {"status": "accepted"}, "accepted needs owner and reason", id="accepted without owner"),
        pytest.param(THREAT | {"id": "T-1"}, "match pattern", id="bad id"),
    ],
)
def test_malformed_threat_is_a_policy_error(tmp_path, threat, message):
    file = tmp_path / "stride.yaml"
    element = {"id": "model-file", "title": "Model file", "cells": CELLS | {"T": [threat]}}
    file.write_text(yaml.safe_dump({"schema_version": 1, "elements": [element]}), encoding="utf-8")
    with pytest.raises(PolicyError, match=message):
        read_register(file)


def test_shipped_register_answers_every_cell_and_names_known_requirements():
    policy = load_policy(ROOT / "policies/mnist.yaml", ROOT).policy
    known = frozenset(one.id for one in policy.requirements)
    elements = next(one.elements for one in policy.requirements if one.id == "REG-001")
    claimed = read_register(ROOT / "policies/stride.yaml")
    assert cell_count(claimed) == 30
    assert findings(claimed, Seen(dict.fromkeys(known, Status.MET), known, elements=elements), "stride.yaml") == []


def test_control_register_has_its_hole_even_when_all_is_met():
    holes = findings(
        read_register(ROOT / "policies/controls/stride-with-a-hole.yaml"), Seen({}, KNOWN), "stride-with-a-hole.yaml"
    )
    assert {finding.rule for finding in holes} == {"unanswered", "unknown", "unproved"}


def test_matrix_words_every_cell():
    row = matrix(register(), Seen({"EVA-001": Status.NOT_MET}, KNOWN))["rows"][0]
    assert [row["cells"][category.value]["state"] for category in Stride] == [
        "not applicable",
        "refuted",
        *["not applicable"] * 4,
    ]


def test_missing_element_is_a_hole():
    verdicts = {"EVA-001": Status.MET}
    assert rules(register(), verdicts, elements=("model-file",)) == []
    assert rules(register(), verdicts, elements=("model-file", "inference")) == ["missing"]


def test_acceptance_out_of_date_is_a_hole():
    accepted = {"id": "T-FILE-T-1", "threat": "Somebody replaces the weight file.", "status": "accepted"}
    claimed = register(T=[accepted | {"owner": "someone", "reason": "a reason", "expires": "2026-06-30"}])
    assert rules(claimed, {}, today=date(2026, 6, 30)) == []
    assert rules(claimed, {}, today=date(2026, 7, 1)) == ["expired"]


def test_waived_requirement_neither_refutes_nor_proves_and_the_cell_says_so():
    verdicts, waived = {"EVA-001": Status.NOT_MET, "EVA-002": Status.NOT_RUN}, frozenset({"EVA-001"})
    assert rules(register(), verdicts) == ["refuted", "unproved"]
    assert rules(register(), verdicts, waived=waived) == []
    row = matrix(register(), Seen(verdicts, KNOWN, waived))["rows"][0]
    assert row["cells"]["T"]["state"] == "waived"
