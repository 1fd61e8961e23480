"""The gate and its exit codes."""

from __future__ import annotations

import pytest

from audit.gate import Circumstances, decide
from audit.records import Evidence, IfNotRun, Status, Verdict


def verdict(name, status):
    return Verdict(requirement_id=name, status=status, reason="because", evidence=Evidence())


def gate(statuses, **around):
    verdicts = [verdict(f"EVA-{index:03}", status) for index, status in enumerate(statuses, start=1)]
    what_if = {one.requirement_id: IfNotRun.BLOCK for one in verdicts} | around.pop("what_if", {})
    return decide(verdicts, what_if, Circumstances(**around))


@pytest.mark.parametrize(
    ("statuses", "around", "code", "words"),
    [
        pytest.param([Status.MET], {}, 0, "OPEN", id="all met"),
        pytest.param([Status.MET, Status.NOT_MET], {}, 1, "not met: EVA-002", id="one not met"),
        pytest.param([Status.INCONCLUSIVE, Status.NOT_MET], {}, 1, "not met: EVA-002", id="not met beats undecided"),
        pytest.param([Status.MET, Status.INCONCLUSIVE], {}, 10, "undecided: EVA-002", id="one inconclusive"),
        pytest.param([Status.MET, Status.NOT_RUN], {}, 10, "undecided: EVA-002", id="one not run, block"),
        pytest.param(
            [Status.MET, Status.NOT_RUN], {"what_if": {"EVA-002": IfNotRun.REPORT}}, 0, "1 not examined", id="report"
        ),
        pytest.param(
            [Status.NOT_RUN], {"what_if": {"EVA-001": IfNotRun.REPORT}}, 10, "no requirement was shown", id="silence"
        ),
        pytest.param([], {}, 10, "no requirement was shown", id="nothing at all"),
        pytest.param([Status.MET], {"crashes": ("scenarios-1 (boom)",)}, 10, "scenarios-1", id="an exhibit crashed"),
        pytest.param(
            [Status.MET, Status.NOT_MET], {"waived": frozenset({"EVA-002"})}, 0, "Waived: EVA-002", id="waived"
        ),
        pytest.param([Status.MET], {"waived": frozenset({"EVA-001"})}, 1, "delete the waiver", id="stale waiver"),
        pytest.param(
            [Status.MET, Status.INCONCLUSIVE],
            {"waived": frozenset({"EVA-002"})},
            10,
            "undecided",
            id="doubt not waived",
        ),
        pytest.param(
            [Status.MET, Status.INCONCLUSIVE], {"allow_incomplete": True}, 0, "INCOMPLETE, allowed", id="allowed"
        ),
        pytest.param([Status.NOT_MET], {"allow_incomplete": True}, 1, "CLOSED", id="not met is never allowed"),
        pytest.param([Status.MET], {"partial": True}, 0, "PARTIAL audit", id="partial"),
    ],
)
def test_gate(statuses, around, code, words):
    decided = gate(statuses, **around)
    assert decided.exit_code == code
    assert decided.open is (code == 0)
    assert words in decided.sentence
