"""Whole audits of the toy: offline, with a snapshot, with a bad one; the bills of materials in the report folder."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from audit.dependencies import bom, lock, pip_audit
from audit.dependencies.difference import Inspected
from tests.unit.audit.conftest import requirement
from tests.unit.audit.dependencies.conftest import KNOWN, TODAY, record


@pytest.fixture
def only_numpy(monkeypatch):
    """Have the real client audit one package instead of all: the service and the canaries stay what they are."""
    monkeypatch.setattr(
        pip_audit,
        "audit_environment",
        lambda service, root: pip_audit.audit_pins(service, [pip_audit.Pin(package="numpy", version="2.4.6")]),
    )


def test_offline_run_says_not_run_with_counts(toy_audit):
    toy_audit.audit("--only", "DEP-001")
    verdict = toy_audit.verdicts()["DEP-001"]
    total = len(verdict["evidence"]["tables"]["skipped"])
    assert verdict["status"] == "NOT_RUN"
    assert verdict["reason"] == f"0 of {total} packages were audited: --offline, and no --advisories DIR was given"
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert f"0 of {total} packages were audited" in page
    assert "Nothing is known about vulnerabilities in the installed packages." in page


def test_snapshot_is_asked_with_and_without_offline(toy_audit, make_snapshot, only_numpy):
    folder = make_snapshot()
    for offline in (True, False):
        result = toy_audit.audit("--only", "DEP-001", "--advisories", str(folder), offline=offline)
        assert result.ret == 0
        report = toy_audit.report()
        (verdict,) = report["verdicts"]
        assert (verdict["status"], verdict["evidence"]["control"]["status"]) == ("MET", "NOT_MET")
        assert f"--advisories {folder.name}" in report["provenance"]["command"]
        assert str(folder) not in json.dumps(report)
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "1 of 1 packages were audited" in page
    assert f"2 records, the newest of {TODAY - timedelta(days=1)}, 2 in force about 2 packages, from a stand-in" in page


def test_vulnerable_package_closes_the_gate_and_a_waiver_opens_it(toy_audit, make_snapshot, only_numpy):
    folder = make_snapshot(
        *KNOWN, record("numpy", "PYSEC-2099-5", aliases=["CVE-2099-5"], events=({"introduced": "0"},))
    )
    result = toy_audit.audit("--only", "DEP-001", "--advisories", str(folder))
    assert result.ret == 1
    assert "numpy 2.4.6: PYSEC-2099-5" in toy_audit.verdicts()["DEP-001"]["reason"]
    waiver = {
        "id": "CVE-2099-5",
        "package": "numpy",
        "reason": "only in a toy",
        "owner": "us",
        "expires": TODAY.isoformat(),
    }
    other = {**waiver, "id": "CVE-2000-1"}
    toy_audit.requirement("DEP-001")["waive"] = [waiver, other]
    result = toy_audit.audit("--only", "DEP-001", "--advisories", str(folder))
    assert result.ret == 0
    assert "DEP-001: the waiver of CVE-2000-1 for numpy: matches nothing any more" in toy_audit.report()["notes"]
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "pip-audit: PYSEC-2099-5" in page
    assert f"only in a toy (waived until {TODAY} by us)" in page


def test_bad_snapshot_and_expired_waiver_are_usage_errors_before_anything_runs(toy_audit, make_snapshot):
    folder = make_snapshot()
    (folder / "records/PYSEC-2018-28.json").unlink()
    for words in ([str(folder)], ["no/such/folder"]):
        result = toy_audit.audit("--only", "DEP-001", "--advisories", *words)
        assert result.ret == 4
        result.stderr.fnmatch_lines(["*DataError: *make the snapshot again*"])
    waiver = {"id": "CVE-2099-5", "package": "numpy", "reason": "only in a toy", "owner": "us", "expires": "2020-01-01"}
    toy_audit.requirement("DEP-001")["waive"] = [waiver]
    result = toy_audit.audit("--only", "DEP-001")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*policies/toy.yaml: requirements[[]8].waive[[]0].expires: CVE-2099-5 expired on 2020-01-01*"]
    )
    assert not (toy_audit.root / "reports").exists()


def test_lock_with_a_difference_closes_the_gate(toy_audit, monkeypatch):
    monkeypatch.setattr(lock, "inspect", lambda *_: Inspected(shown={"files": 3, "bytes": 6144, "bytes_read": 2048}))
    toy_audit.write("lock.txt", f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    toy_audit.policy["requirements"].insert(
        8,
        requirement(
            "DEP-002",
            "dependency",
            {"metric": "findings", "at_most": 0},
            check="lock",
            locks=["lock.txt"],
            at_least={"torch": "2.6"},
            control={"tamper": "lock"},
        ),
    )
    result = toy_audit.audit("--only", "DEP-002")
    assert result.ret == 1
    verdict = toy_audit.verdicts()["DEP-002"]
    assert verdict["evidence"]["findings"][0]["message"] == "no-such-package 1.0 is in the lock, but not installed"
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "distributions are installed" in page
    assert "3 installed files of 6,144 bytes were held to the digests" in page


def test_bills_lie_in_the_report_folder_and_validate(toy_audit):
    toy_audit.audit("--only", "DEP-001", "PERF-001")
    latest = toy_audit.root / "reports/latest"
    for name in (bom.SBOM, bom.ML_BOM):
        text = (latest / name).read_text(encoding="utf-8")
        assert bom.invalid(json.loads(text)) is None
        assert str(toy_audit.root) not in text
        assert str(Path.home()) not in text
    card = json.loads((latest / bom.ML_BOM).read_text(encoding="utf-8"))["metadata"]["component"]
    assert card["hashes"][0]["content"] == toy_audit.policy["targets"]["honest"]["sha256"]
    (metric,) = card["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], metric["value"]) == ("clean_accuracy", "1.000000")
    page = (latest / "report.html").read_text(encoding="utf-8")
    assert page.count("validates</span> against the strict schema") == 2


def test_bill_that_cannot_be_made_is_a_note_and_the_audit_goes_on(toy_audit, monkeypatch):
    monkeypatch.setattr(bom, "COMMAND", (sys.executable, "-c", "raise SystemExit('no tool')"))
    toy_audit.audit("--only", "DEP-001")
    (note,) = [one for one in toy_audit.report()["notes"] if "training split" not in one]
    assert note.startswith("error: sbom.cdx.json was not made: cyclonedx-py: expected its JSON")
    assert not (toy_audit.root / "reports/latest" / bom.SBOM).exists()


def test_partial_audit_of_something_else_makes_no_bills(toy_audit):
    toy_audit.audit("--only", "PERF-001")
    assert not list((toy_audit.root / "reports/latest").glob("*.cdx.json"))
