"""The verdict: the interval decides, and doubt only ever lowers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.judge import judge
from audit.records import Bound, ControlResult, Evidence, Finding, Measurement, Metric, Probe, Severity, Status

FLOOR = Bound(metric=Metric.ROBUST_ACCURACY, at_least=0.9)
CEILING = Bound(metric=Metric.EXCESS_ASR, at_most=0.02)
GOOD_CONTROL = ControlResult(name="baseline", status=Status.NOT_MET, detail="broken")
BAD_CONTROL = ControlResult(name="baseline", status=Status.MET, detail="not broken")
FAILED = Probe(name="logits", passed=False, detail="probabilities")


def measured(low, value, high, metric=Metric.ROBUST_ACCURACY):
    return Measurement(metric=metric, value=value, low=low, high=high, n=100)


@pytest.mark.parametrize(
    ("bound", "measurement", "status"),
    [
        pytest.param(FLOOR, measured(0.91, 0.95, 0.97), Status.MET, id="worse end clears the floor"),
        pytest.param(FLOOR, measured(0.90, 0.95, 0.97), Status.MET, id="worse end on the floor"),
        pytest.param(FLOOR, measured(0.88, 0.95, 0.97), Status.INCONCLUSIVE, id="straddles the floor"),
        pytest.param(FLOOR, measured(0.80, 0.85, 0.89), Status.NOT_MET, id="better end misses the floor"),
        pytest.param(CEILING, measured(0.0, 0.01, 0.02, Metric.EXCESS_ASR), Status.MET, id="under the ceiling"),
        pytest.param(CEILING, measured(0.03, 0.04, 0.05, Metric.EXCESS_ASR), Status.NOT_MET, id="over the ceiling"),
        pytest.param(CEILING, measured(0.01, 0.02, 0.03, Metric.EXCESS_ASR), Status.INCONCLUSIVE, id="straddles it"),
    ],
)
def test_the_interval_decides(bound, measurement, status):
    assert judge("EVA-001", bound, Evidence(measurement=measurement, control=GOOD_CONTROL)).status is status


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        pytest.param({"control": BAD_CONTROL}, "control baseline came out MET", id="control not NOT_MET"),
        pytest.param({"control": None}, "control did not run", id="no control"),
        pytest.param({"control": GOOD_CONTROL, "probes": (FAILED,)}, "probe 'logits' failed", id="probe"),
        pytest.param({"control": GOOD_CONTROL, "doubt": "the tool broke"}, "the tool broke", id="doubt"),
    ],
)
def test_doubt_lowers_met_and_never_lifts_not_met(doubt, words):
    good = judge("EVA-001", FLOOR, Evidence(measurement=measured(0.95, 0.96, 0.97), **doubt))
    assert good.status is Status.INCONCLUSIVE
    assert words in good.reason
    bad = judge("EVA-001", FLOOR, Evidence(measurement=measured(0.1, 0.2, 0.3), **doubt))
    assert bad.status is Status.NOT_MET


def test_silence_is_not_a_pass():
    assert judge("EVA-001", FLOOR, Evidence()).status is Status.INCONCLUSIVE
    assert judge("EVA-001", FLOOR, Evidence(not_run="no tool")).status is Status.NOT_RUN


def test_findings_count_even_when_part_of_the_work_was_not_done():
    bound = Bound(metric=Metric.FINDINGS, at_most=0)
    found = Finding(tool="pip-audit", rule="CVE-1", severity=Severity.HIGH, path="requests 2.19.1", message="bad")
    count = Measurement(metric=Metric.FINDINGS, value=1, low=1, high=1, n=3)
    verdict = judge("DEP-001", bound, Evidence(measurement=count, findings=(found,), not_run="2 skipped"))
    assert verdict.status is Status.NOT_MET
    assert "requests 2.19.1: CVE-1" in verdict.reason


def test_a_measurement_of_something_else_decides_nothing():
    evidence = Evidence(measurement=measured(1, 1, 1, Metric.CLEAN_ACCURACY), control=GOOD_CONTROL)
    assert judge("EVA-001", FLOOR, evidence).status is Status.INCONCLUSIVE


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0, 0.5))
def test_a_better_measurement_never_gives_a_worse_verdict(values, shift):
    low, value, high, limit = *sorted(values[:3]), values[3]
    order = [Status.NOT_MET, Status.INCONCLUSIVE, Status.MET]
    bound = Bound(metric=Metric.ROBUST_ACCURACY, at_least=limit)
    before, after = (
        judge(
            "EVA-001",
            bound,
            Evidence(measurement=measured(min(low + s, 1), min(value + s, 1), min(high + s, 1)), control=GOOD_CONTROL),
        ).status
        for s in (0.0, shift)
    )
    assert order.index(after) >= order.index(before)
