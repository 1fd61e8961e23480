"""DEP-001: only what was really audited counts, exceptions and waivers have reasons, and the canaries must be found."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from audit.dependencies import advisories, pip_audit
from audit.dependencies.examine import dependency
from audit.dependencies.pip_audit import Pin, Service, parse
from audit.dependencies.vulnerabilities import evidence_in
from audit.errors import PolicyError, ScannerMissing
from audit.judge import judge
from audit.policy import load_policy
from audit.records import Status
from audit.requirements import AdvisoriesRequirement
from audit.waivers import check_advisory_waivers
from tests.unit.audit.dependencies.conftest import KNOWN, TODAY, record

ROOT = Path(__file__).parents[4]
SERVICE = Service("a stand-in", (), {})
CLEAN = {"name": "torch", "version": "2.15.0", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}
OURSELVES = {"name": "Model_Security.Audit", "skip_reason": "not found"}
VULNERABLE = {
    "name": "requests",
    "version": "2.19.1",
    "vulns": [
        {"id": "PYSEC-2018-28", "aliases": ["CVE-2018-18074", "GHSA-x84v-xcm2-53pg"], "fix_versions": ["2.20.0"]}
    ],
}
CANARIES = [VULNERABLE, {"name": "torch", "version": "2.5.1", "vulns": [{"id": "CVE-2025-32434", "fix_versions": []}]}]
SMALL = {"min_records": 1, "min_packages": 1}  # of a snapshot of a few records, which no shipped policy believes
WAIVER = {
    "id": "GHSA-x84v-xcm2-53pg",
    "package": "Requests",
    "reason": "no redirect is ever followed",
    "owner": "ml-platform",
    "expires": "2026-12-31",
}


def requirement(**changes):
    policy = load_policy(ROOT / "policies/digits.yaml", ROOT).policy
    shipped = next(one for one in policy.requirements if one.id == "DEP-001")
    return AdvisoriesRequirement.model_validate({**shipped.model_dump(mode="json"), **changes})


def scan_of(*packages):
    return parse(json.dumps({"dependencies": list(packages), "fixes": []}))


def verdict(*packages, canaries=CANARIES, **changes):
    required = requirement(**changes)
    evidence = evidence_in(required, scan_of(*packages), SERVICE, lambda pins: scan_of(*canaries))
    return judge("DEP-001", required.bound, evidence)


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        pytest.param([CLEAN, OURSELVES], Status.MET, "findings 0", id="all audited but ourselves"),
        pytest.param([CLEAN, SKIPPED], Status.NOT_RUN, "1 of 2 packages were audited, 1 skipped", id="one skipped"),
        pytest.param([SKIPPED], Status.NOT_RUN, "0 of 1", id="everything skipped"),
        pytest.param([OURSELVES], Status.NOT_RUN, "0 of 1", id="everything excepted"),
        pytest.param([], Status.NOT_RUN, "0 of 0", id="no package at all"),
        pytest.param([CLEAN, VULNERABLE], Status.NOT_MET, "requests 2.19.1: PYSEC-2018-28", id="vulnerable"),
        pytest.param([VULNERABLE, SKIPPED], Status.NOT_MET, "requests 2.19.1", id="vulnerable, and one skipped"),
    ],
)
def test_only_packages_that_were_really_audited_count(packages, status, words):
    given = verdict(*packages)
    assert given.status is status
    assert words in given.reason


def test_exception_names_what_need_not_be_audited_and_why():
    excused = [{"package": "NumPy", "reason": "a reason long enough"}]
    given = verdict(CLEAN, SKIPPED, exceptions=excused)
    assert given.status is Status.MET
    assert given.evidence.tables["skipped"][0]["exception"] == "a reason long enough"


@pytest.mark.parametrize("name", ["torch", "TorchVision", "TORCH"])
def test_torch_can_never_be_an_exception(tmp_path, name):
    policy = yaml.safe_load((ROOT / "policies/digits.yaml").read_text(encoding="utf-8"))
    (index,) = (index for index, one in enumerate(policy["requirements"]) if one["id"] == "DEP-001")
    policy["requirements"][index]["exceptions"].append({"package": name, "reason": "a reason long enough"})
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    with pytest.raises(PolicyError, match=rf"requirements\[{index}\]\.exceptions\[1\]\.package: .*\(got '{name}'\)"):
        load_policy(tmp_path / "policy.yaml", ROOT)


def test_waived_advisory_is_listed_and_does_not_count():
    given = verdict(CLEAN, VULNERABLE, waive=[WAIVER])
    assert given.status is Status.MET
    (one,) = given.evidence.suppressions
    assert (one.what, one.path) == ("PYSEC-2018-28", "requests 2.19.1")
    assert one.reason == "no redirect is ever followed (waived until 2026-12-31 by ml-platform)"
    assert given.evidence.tables["vulnerable"][0]["waived"]
    assert given.evidence.tables["waivers_out_of_use"] == []


@pytest.mark.parametrize("change", [{"id": "CVE-2099-1"}, {"package": "urllib3"}])
def test_waiver_of_something_else_covers_nothing_and_the_report_says_so(change):
    given = verdict(CLEAN, VULNERABLE, waive=[{**WAIVER, **change}])
    assert given.status is Status.NOT_MET
    (line,) = given.evidence.tables["waivers_out_of_use"]
    assert line.endswith("matches nothing any more")


def test_waiver_is_not_called_out_of_use_where_packages_were_not_audited():
    assert verdict(CLEAN, SKIPPED, waive=[WAIVER]).evidence.tables["waivers_out_of_use"] == []


def test_expired_waiver_is_a_policy_error():
    shipped = load_policy(ROOT / "policies/digits.yaml", ROOT)

    def file(*waivers):
        policy = shipped.policy.model_copy(update={"requirements": (requirement(waive=waivers),)})
        return SimpleNamespace(policy=policy, path="policy.yaml")

    check_advisory_waivers(file(WAIVER), today=date(2026, 12, 31))
    with pytest.raises(PolicyError, match=r"requirements\[0\]\.waive\[0\]\.expires: GHSA-\S+ expired on 2026-12-31"):
        check_advisory_waivers(file(WAIVER), today=date(2027, 1, 1))
    with pytest.raises(PolicyError, match=r"waive\[0\]\.expires: a waiver lasts at most 366 days, so until 2026-12-30"):
        check_advisory_waivers(file(WAIVER), today=date(2025, 12, 29))
    with pytest.raises(PolicyError, match=r"waive\[1\]\.id: every advisory of a package once"):
        check_advisory_waivers(file(WAIVER, WAIVER), today=date(2026, 1, 1))


@pytest.mark.parametrize(
    ("canaries", "detail"),
    [
        pytest.param(
            CANARIES[:1], r"torch 2.5.1: this service must know CVE-2025-32434 (got nothing)", id="one unknown"
        ),
        pytest.param([{**CANARIES[1], "version": "2.5.0"}, VULNERABLE], "got nothing", id="another version"),
        pytest.param(
            [{**VULNERABLE, "vulns": [{"id": "CVE-1"}]}], "must know CVE-2018-18074 (got CVE-1)", id="another advisory"
        ),
    ],
)
def test_service_that_does_not_know_the_canaries_discredits_the_check(canaries, detail):
    given = verdict(CLEAN, canaries=canaries)
    assert given.status is Status.INCONCLUSIVE
    assert given.evidence.control.status is Status.INCONCLUSIVE
    assert detail in given.evidence.control.detail
    assert verdict(CLEAN, VULNERABLE, canaries=canaries).status is Status.NOT_MET


def test_canaries_are_asked_for_by_name_and_version():
    asked = []
    evidence_in(requirement(), scan_of(CLEAN), SERVICE, lambda pins: asked.extend(pins) or scan_of(*CANARIES))
    assert asked == [Pin(package="requests", version="2.19.1"), Pin(package="torch", version="2.5.1")]


@pytest.fixture
def session(tmp_path):
    """Give a function that makes as much of a session as the check needs."""

    def make(snapshot=None, *, offline=True):
        options = SimpleNamespace(advisories=snapshot and advisories.read(snapshot), offline=offline)
        return SimpleNamespace(options=options, root=tmp_path, notes=[])

    return make


def judged(session, **changes):
    required = requirement(**changes)
    return judge("DEP-001", required.bound, dependency(required, session))


def test_offline_without_a_snapshot_says_how_many_of_how_many(session):
    given = judged(session())
    assert given.status is Status.NOT_RUN
    total = len(given.evidence.tables["skipped"])
    assert total > 100
    assert given.reason == f"0 of {total} packages were audited: --offline, and no --advisories DIR was given"


def test_snapshot_is_asked_about_every_installed_package(session, make_snapshot):
    """The whole way: the real client, the running environment, the canaries; an advisory for what is installed."""
    ours = record("pip-audit", "PYSEC-2099-3", aliases=["CVE-2099-3"], events=({"introduced": "0"},))
    asked = session(make_snapshot(*KNOWN, ours))
    given = judged(asked, waive=[{**WAIVER, "id": "CVE-2001-1"}])
    assert given.status is Status.NOT_MET
    assert [one.rule for one in given.evidence.findings] == ["PYSEC-2099-3"]
    assert given.evidence.control.status is Status.NOT_MET
    assert "CVE-2025-32434" in given.evidence.control.detail
    tables = given.evidence.tables
    assert len(tables["audited"]) > 100
    assert {one["package"] for one in tables["skipped"]} <= {"model-security-audit"}
    assert asked.notes == ["DEP-001: the waiver of CVE-2001-1 for Requests: matches nothing any more"]
    assert f"snapshot of {TODAY - timedelta(days=1)}, 3 records" in tables["service"]


@pytest.mark.parametrize(
    ("age", "status", "detail"),
    [
        (14, Status.MET, "it is 14 days old; at most 14 days are allowed"),
        (15, Status.INCONCLUSIVE, "it is 15 days old"),
        (-1, Status.INCONCLUSIVE, "one is of a day to come"),
    ],
)
def test_old_snapshot_and_one_of_a_day_to_come_are_not_believed(
    session, make_snapshot, monkeypatch, age, status, detail
):
    monkeypatch.setattr(pip_audit, "audit_environment", lambda *_: scan_of(CLEAN))
    monkeypatch.setattr(pip_audit, "audit_pins", lambda *_: scan_of(*CANARIES))
    given = judged(session(make_snapshot(age=age)), **SMALL, max_age_days=14)
    assert given.status is status
    assert detail in given.evidence.probes[0].detail
    monkeypatch.setattr(pip_audit, "audit_environment", lambda *_: scan_of(CLEAN, VULNERABLE))
    assert judged(session(make_snapshot(age=age, name="again"))).status is Status.NOT_MET


def test_empty_shell_of_a_snapshot_is_not_believed(session, make_snapshot, monkeypatch):
    monkeypatch.setattr(pip_audit, "audit_environment", lambda *_: scan_of(CLEAN))
    given = judged(session(make_snapshot(record("some-other-package"))), **SMALL)
    assert given.status is Status.INCONCLUSIVE
    assert "requests 2.19.1: this service must know CVE-2018-18074 (got nothing)" in given.evidence.control.detail


@pytest.fixture
def clean_environment(monkeypatch):
    """Have the environment be clean, and the canaries known."""
    monkeypatch.setattr(pip_audit, "audit_environment", lambda *_: scan_of(CLEAN))
    monkeypatch.setattr(pip_audit, "audit_pins", lambda *_: scan_of(*CANARIES))


def test_two_records_of_2018_taken_today_are_no_snapshot_to_believe(session, make_snapshot, clean_environment):
    """They are those of the canaries, so the control holds; what is as old as they are, and as small, knows nothing."""
    folder = make_snapshot(*(one | {"modified": "2018-10-10T00:00:00Z"} for one in KNOWN), age=0)
    given = judged(session(folder))
    assert given.status is Status.INCONCLUSIVE
    assert given.evidence.control.status is Status.NOT_MET
    assert [(one.name, one.passed) for one in given.evidence.probes] == [
        ("the advisories are recent", False),
        ("the advisories are a whole dump", False),
    ]
    assert f"the snapshot was taken on {TODAY}, its newest record is of 2018-10-10: it is" in given.reason
    assert "2 records in force about 2 packages; at least 10,000 about 5,000 are required" in given.reason


@pytest.mark.parametrize(
    ("floors", "status"),
    [
        ({"min_records": 2, "min_packages": 2}, Status.MET),
        ({"min_records": 3, "min_packages": 2}, Status.INCONCLUSIVE),
        ({"min_records": 2, "min_packages": 3}, Status.INCONCLUSIVE),
    ],
)
def test_snapshot_has_as_many_records_and_packages_as_the_policy_asks_for(
    session, make_snapshot, clean_environment, floors, status
):
    assert judged(session(make_snapshot()), **floors).status is status


def test_policy_that_names_no_floor_asks_for_a_whole_dump():
    named = requirement().model_dump(mode="json", exclude={"min_records", "min_packages"})
    found = AdvisoriesRequirement.model_validate(named)
    assert (found.min_records, found.min_packages) == (10_000, 5_000)


def test_snapshot_other_than_the_pinned_one_is_not_believed(session, make_snapshot, clean_environment):
    folder = make_snapshot()
    digest = advisories.read(folder).head.sha256
    assert judged(session(folder), **SMALL, snapshot_sha256=digest).status is Status.MET
    given = judged(session(folder), **SMALL, snapshot_sha256="0" * 64)
    assert given.status is Status.INCONCLUSIVE
    assert f"the snapshot is the pinned one' failed: expected SHA-256 {'0' * 64} (got {digest})" in given.reason


def test_service_out_of_reach_means_that_nothing_was_audited(session, monkeypatch):
    def unreached(*_):
        raise ScannerMissing("pip-audit: its advisory service gave no answer")

    monkeypatch.setattr(pip_audit, "audit_environment", unreached)
    given = judged(session(offline=False))
    assert given.status is Status.NOT_RUN
    assert given.reason.endswith("packages were audited: pip-audit: its advisory service gave no answer")
    assert given.evidence.tables["audited"] == []


def test_nonsense_of_the_service_is_inconclusive(session, monkeypatch):
    monkeypatch.setattr(pip_audit, "COMMAND", ("echo", "all is well"))
    given = judged(session(offline=False))
    assert given.status is Status.INCONCLUSIVE
    assert "expected its JSON report" in given.reason
