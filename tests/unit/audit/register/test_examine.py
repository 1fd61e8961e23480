"""REG-001 and REG-002 on the shipped register: green as it stands, and red for every single thing that is wrong."""

from __future__ import annotations

import copy
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from audit.judge import judge
from audit.policy import load_policy
from audit.records import Status
from audit.register import read_register
from audit.register.examine import register
from audit.requirements import CoverageRequirement

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "policies/stride.yaml"
QUICK = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # writes the same, ten times as fast, where it was built
DAY = max(one.reviewed for one in read_register(SHIPPED).elements)


@pytest.fixture(scope="module", params=["mnist", "digits"])
def policy(request):
    return load_policy(ROOT / f"policies/{request.param}.yaml", ROOT).policy


@pytest.fixture(scope="module")
def shipped():
    return yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


@pytest.fixture
def claimed(shipped):
    return copy.deepcopy(shipped)


@pytest.fixture
def examined(policy, claimed, tmp_path):
    """Give a function that judges a requirement of the register, with what was changed."""

    def verdict(name, *, known=policy.requirements, changed=None, today=DAY, waived=frozenset(), bad=None):
        file = tmp_path / "stride.yaml"
        file.write_text(yaml.dump(claimed, Dumper=QUICK), encoding="utf-8")
        (one,) = [one for one in policy.requirements if one.id == name]
        one = one.model_copy(update={"register_file": str(file)})
        if bad is not None:
            one = one.model_copy(update={"control": one.control.model_copy(update={"register_file": str(bad)})})
        session = SimpleNamespace(
            root=ROOT,
            file=SimpleNamespace(policy=SimpleNamespace(requirements=known)),
            options=SimpleNamespace(waived=waived),
        )
        verdicts = {one.id: Status.MET for one in known} | (changed or {})
        evidence, _ = register(one, session, {k: v for k, v in verdicts.items() if v}, today)
        return judge(one.id, one.bound, evidence)

    return verdict


def threat(claimed, name):
    return next(
        one
        for element in claimed["elements"]
        for cell in element["cells"].values()
        if isinstance(cell, list)
        for one in cell
        if one["id"] == name
    )


def rules(verdict):
    assert verdict.status is Status.NOT_MET
    return {one.rule for one in verdict.evidence.findings}


@pytest.mark.parametrize("name", ["REG-001", "REG-002"])
def test_shipped_register_is_green_and_its_control_red(examined, name):
    verdict = examined(name)
    assert (verdict.status, verdict.evidence.findings) == (Status.MET, ())
    assert verdict.evidence.control.status is Status.NOT_MET


def test_shipped_register_answers_48_cells(examined):
    measurement = examined("REG-001").measurement
    assert (measurement.n, measurement.settings["cells"]) == (48, 48)
    assert measurement.settings["threats"] >= 50


def test_removed_requirement_is_red(examined, policy):
    left = tuple(one for one in policy.requirements if one.id != "DEP-002")
    assert rules(examined("REG-001", known=left)) == {"unknown", "unproved"}


def test_unknown_requirement_is_red(examined, claimed):
    threat(claimed, "T-CODE-I-1")["requirements"].append("NONE-999")
    assert rules(examined("REG-001")) == {"unknown"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(Status.NOT_MET, {"refuted", "unproved"}, id="not met"),
        pytest.param(Status.NOT_RUN, {"unproved"}, id="not run"),
        pytest.param(Status.INCONCLUSIVE, {"unproved"}, id="undecided"),
        pytest.param(None, {"unproved"}, id="absent"),
    ],
)
def test_threat_whose_only_requirement_was_not_met_in_this_run_is_red(examined, status, expected):
    verdict = examined("REG-001", changed={"DEP-002": status})
    assert expected <= rules(verdict)
    assert any("T-CODE-S-1" in one.message for one in verdict.evidence.findings)


def test_waived_requirement_leaves_it_green_where_another_one_counters_the_threat(examined):
    changed = {"EVA-003": Status.NOT_MET}
    assert rules(examined("REG-001", changed=changed)) == {"refuted"}
    assert examined("REG-001", changed=changed, waived=frozenset({"EVA-003"})).status is Status.MET


def test_waived_requirement_alone_leaves_its_threat_unproved(examined):
    verdict = examined("REG-001", changed={"DEP-002": Status.NOT_MET}, waived=frozenset({"DEP-002"}))
    assert rules(verdict) == {"unproved"}
    assert [one.message.split(":")[0] for one in verdict.evidence.findings] == ["T-CODE-S-1"]


def mitigated(claimed):
    return [
        one
        for element in claimed["elements"]
        for cell in element["cells"].values()
        if isinstance(cell, list)
        for one in cell
        if one["status"] == "mitigated"
    ]


@pytest.mark.parametrize("name", ["PERF-001", "REG-001", "REG-002"])
def test_register_in_which_everything_cites_one_requirement_is_red(examined, claimed, name):
    """Clean accuracy counters one category; the register's own requirements, which are about all six, counter none."""
    for one in mitigated(claimed):
        one["requirements"] = [name]
    verdict = examined("REG-001")
    assert rules(verdict) == {"beside the point"}
    letters = {one.message.split("-")[2] for one in verdict.evidence.findings}
    assert letters == set("STRIE") | ({"D"} if name != "PERF-001" else set())


def test_every_mitigated_threat_cites_a_requirement_of_its_own_category(policy, shipped):
    """Told from the files alone: the letter in the threat's id is that of its cell, and of one of its requirements."""
    letters = {one.id: set(one.stride) for one in policy.requirements if one.family != "register"}
    for element in shipped["elements"]:
        for letter, threats in element["cells"].items():
            for one in threats if isinstance(threats, list) else ():
                assert one["id"].split("-")[2] == letter
                if one["status"] == "mitigated":
                    assert any(letter in letters[name] for name in one["requirements"]), one["id"]


def test_missing_cell_is_red(examined, claimed):
    del claimed["elements"][0]["cells"]["R"]
    assert rules(examined("REG-001")) == {"unanswered"}


@pytest.mark.parametrize("index", range(8))
def test_missing_element_is_red(examined, claimed, index):
    (gone,) = claimed["elements"][index : index + 1]
    claimed["elements"].remove(gone)
    claimed["flows"] = [one for one in claimed["flows"] if gone["id"] not in one.values()]
    assert "missing" in rules(examined("REG-001"))


def test_malformed_reference_is_red(examined, claimed):
    threat(claimed, "T-DATA-T-1")["references"].append("AML.T0200")
    assert rules(examined("REG-001")) == {"reference"}


def test_expired_acceptance_is_red(examined, claimed):
    threat(claimed, "T-INF-I-1")["expires"] = DAY - timedelta(days=1)
    assert rules(examined("REG-002")) == {"expired"}
    assert examined("REG-001").status is Status.MET


def test_stale_review_is_red(examined, claimed):
    claimed["elements"][2]["reviewed"] = DAY - timedelta(days=181)
    verdict = examined("REG-002")
    assert rules(verdict) == {"stale"}
    assert "training-code" in verdict.reason


def test_time_alone_turns_it_red(examined):
    assert rules(examined("REG-002", today=date(2100, 1, 1))) == {"expired", "stale"}


def test_control_without_the_claim_beside_the_point_discredits_the_check(examined, policy, tmp_path):
    (one,) = [one for one in policy.requirements if one.id == "REG-001"]
    text = (ROOT / one.control.register_file).read_text(encoding="utf-8")
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.replace("[ABC-002]", "[ABC-001]"), encoding="utf-8")
    verdict = examined("REG-001", bad=bad)
    assert verdict.status is Status.INCONCLUSIVE
    assert "overlooked: beside the point)" in verdict.evidence.control.detail


@pytest.mark.parametrize("name", ["REG-001", "REG-002"])
def test_control_with_a_kind_of_fault_too_few_discredits_the_check(examined, name):
    verdict = examined(name, bad=SHIPPED)
    assert verdict.status is Status.INCONCLUSIVE
    assert "overlooked: " in verdict.evidence.control.detail


def test_policies_name_every_element_of_the_register(policy):
    named = next(one.elements for one in policy.requirements if isinstance(one, CoverageRequirement))
    assert named == tuple(one.id for one in read_register(SHIPPED).elements)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("T-DATA-S-1", id="spoofed dataset source"),
        pytest.param("T-FILE-S-1", id="replaced weights"),
        pytest.param("T-CODE-T-1", id="altered training code"),
        pytest.param("T-HARN-T-1", id="altered evaluation code"),
        pytest.param("T-TRAIN-R-1", id="denied actions"),
        pytest.param("T-INF-R-1", id="denied requests"),
        pytest.param("T-INF-I-1", id="model stealing"),
        pytest.param("T-INF-I-2", id="membership inference"),
        pytest.param("T-INF-I-3", id="error-message leaks"),
        pytest.param("T-INF-D-1", id="request floods"),
        pytest.param("T-INF-D-2", id="oversized inputs"),
        pytest.param("T-DATA-D-1", id="deleted data"),
        pytest.param("T-FILE-E-1", id="code execution on load"),
        pytest.param("T-CODE-E-1", id="vulnerable dependency"),
        pytest.param("T-CI-E-1", id="over-privileged CI"),
        pytest.param("T-INF-T-1", id="backdoor activation"),
    ],
)
def test_threat_of_the_published_reports_is_in(claimed, name):
    assert threat(claimed, name)


@pytest.mark.parametrize("name", ["T-INF-I-1", "T-INF-I-2", "T-TRAIN-I-1"])
def test_what_no_requirement_measures_is_accepted_and_not_mitigated(claimed, name):
    assert threat(claimed, name)["status"] == "accepted"
