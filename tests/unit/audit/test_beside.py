"""Requirements examined beside others: the report is the same, and what goes wrong there is told here."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from audit import checks
from audit.records import Family

CHOSEN = ("PERF-001", "EVA-001", "EVA-002", "ARTF-001", "STAT-001", "DEP-001", "REG-002")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")


def told(report):
    """Return a report without what differs from run to run: times, and how it was asked for."""
    verdicts = []
    for one in report["verdicts"]:
        evidence = one["evidence"] | {"measurement": None}
        timeless = {"seconds", "measured_at"}
        measured = {name: value for name, value in (one["measurement"] or {}).items() if name not in timeless}
        verdicts.append(one | {"measurement": measured, "evidence": evidence})
    timeless = {"inference_seconds", "milliseconds_per_image", "attack_seconds", "measured_at"}
    exhibits = [
        one | {"data": {name: value for name, value in one["data"].items() if name not in timeless}}
        for one in report["exhibits"]
        if one["kind"] not in ("sbom", "mlbom")
    ]
    return verdicts, exhibits, report["gate"], report["notes"]


def test_the_report_is_the_same_whatever_the_number_of_processes(toy_audit, monkeypatch):
    toy_audit.audit("--only", *CHOSEN)
    alone = toy_audit.report()
    monkeypatch.setenv("MODEL_AUDIT_CACHE", str(toy_audit.root / ".other"))
    toy_audit.audit("--only", *CHOSEN, "-j", "3")
    together = toy_audit.report()
    assert told(together) == told(alone)
    assert [one["name"] for one in together["timings"]] == [one["name"] for one in alone["timings"]]
    assert {one["name"] for one in together["timings"] if one["beside"]} == {"ARTF-001", "STAT-001", "DEP-001"}
    assert not any(one["beside"] for one in alone["timings"])


def test_the_first_verdicts_are_not_held_up_by_what_runs_beside(toy_audit, monkeypatch):
    told = []

    def noting(name, work):
        return lambda *given: (told.append(name), work(*given))[1]

    monkeypatch.setitem(checks.CHECKS, Family.PERFORMANCE, noting("verdict", checks.CHECKS[Family.PERFORMANCE]))
    monkeypatch.setattr(checks, "start_beside", noting("beside", checks.start_beside))
    toy_audit.audit("--only", "PERF-001", "STAT-001", "-j", "2")
    assert told == ["verdict", "beside"]
    assert toy_audit.verdicts()["STAT-001"]["status"] == "MET"


def test_a_check_that_breaks_beside_costs_its_own_verdict_alone(toy_audit, monkeypatch):
    def breaks(requirement, session):
        raise ZeroDivisionError("the scanner divides")

    monkeypatch.setitem(checks.CHECKS, Family.STATIC, breaks)
    result = toy_audit.audit("--only", "PERF-001", "STAT-001", "-j", "2")
    assert result.ret == 10
    verdicts = toy_audit.verdicts()
    assert verdicts["STAT-001"]["status"] == "INCONCLUSIVE"
    assert "ZeroDivisionError: the scanner divides" in verdicts["STAT-001"]["reason"]
    assert verdicts["PERF-001"]["status"] == "MET"


def test_a_process_that_is_killed_beside_is_no_pass(toy_audit, monkeypatch):
    def dies(requirement, session):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setitem(checks.CHECKS, Family.STATIC, dies)
    result = toy_audit.audit("--only", "PERF-001", "STAT-001", "STAT-002", "-j", "2")
    assert result.ret == 10
    for name in ("STAT-001", "STAT-002"):
        verdict = toy_audit.verdicts()[name]
        assert verdict["status"] == "INCONCLUSIVE"
        assert "its process ended with -9 and said nothing" in verdict["reason"]


def test_a_waived_failure_beside_is_waived(toy_audit):
    toy_audit.write("bad.py", "def answer(text):\n    return eval(text)\n")
    toy_audit.git("add", "bad.py")
    toy_audit.waive("STAT-001")
    result = toy_audit.audit("--only", "PERF-001", "STAT-001", "-j", "2")
    assert result.ret == 0
    assert toy_audit.verdicts()["STAT-001"]["status"] == "NOT_MET"
    assert toy_audit.verdicts()["STAT-001"]["waived"] is True


@pytest.mark.parametrize("jobs", ["0", "-3"])
def test_a_number_of_processes_below_one_is_a_usage_error(toy_audit, jobs):
    result = toy_audit.audit("-j", jobs)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*-j: expected a number of processes, at least 1 (got {jobs})*"])


def test_what_the_last_run_took_is_said_before_the_next(toy_audit):
    first = toy_audit.audit("--only", "PERF-001", "STAT-001")
    first.stdout.fnmatch_lines(["expected: no run of this kind to go by"])
    again = toy_audit.audit("--only", "PERF-001", "STAT-001")
    again.stdout.fnmatch_lines(["expected: about * s, as last time"])
    report = toy_audit.report()
    assert [one["name"] for one in report["timings"]] == ["PERF-001", "STAT-001"]
    assert report["seconds"] >= sum(one["seconds"] for one in report["timings"])
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "Where the time went" in page


def test_quick_draws_what_was_computed_anyway_and_says_what_it_left_out(toy_audit):
    linf = {"target": "honest", "attack": {"name": "fgsm"}, "eps": 0.1}
    eps = {"eps": [0.05, 0.1], "targets": ["honest", "fragile"], "attack": {"name": "fgsm"}}
    toy_audit.policy["exhibits"] = {
        "scenarios": [{"label": "honest, clean", "target": "honest"}, {"label": "honest, FGSM", **linf}],
        "curves": [{"title": "FGSM, quick", "quick": True, **eps}, {"title": "FGSM, slow", **eps}],
    }
    for name in ("ARTF-001", "STAT-001", "STAT-002", "STAT-003", "DEP-001", "POI-001", "REG-001", "REG-002"):
        toy_audit.policy["requirements"].remove(toy_audit.requirement(name))
    toy_audit.audit()
    quick = toy_audit.report()
    rows = {one["title"] for one in quick["exhibits"] if one["kind"] == "scenario"}
    assert {"PERF-001 clean", "EVA-001 fgsm", "EVA-002 pgd", "EVA-002 control, pgd"} <= rows
    assert {"EVA-002 challenger: noise", "EVA-002 challenger: square"} <= rows
    assert "honest, clean" not in rows
    assert [one["title"] for one in quick["exhibits"] if one["kind"] == "curve"] == ["FGSM, quick"]
    assert quick["policy"]["exhibits_left_out"]["counts"] == {"scenarios": 2, "curves": 1}
    command = quick["policy"]["exhibits_left_out"]["command"]
    assert command.endswith("--exhibits")
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "Not drawn in this profile: scenarios 2, curves 1" in page
    assert command in page
    toy_audit.audit("--exhibits")
    whole = toy_audit.report()
    assert whole["policy"]["exhibits_left_out"] is None
    rows = {one["title"] for one in whole["exhibits"] if one["kind"] == "scenario"}
    assert rows == {"honest, clean", "honest, FGSM"}
    assert [one["title"] for one in whole["exhibits"] if one["kind"] == "curve"] == ["FGSM, quick", "FGSM, slow"]
