"""Every requirement is seen to come out NOT_MET: each row of the first policy, against something known to be bad."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from audit.dependencies import pip_audit

VULNERABLE = "import torch\n\n\ndef load(path):\n    return torch.load(path, weights_only=False), eval(path)\n"
SECRET = 'DATABASE_PASSWORD = "{}"'.format("-".join(["correct", "horse", "battery"]))  # no literal, see STAT-003
PIP_AUDIT = """
print('{"dependencies": [{"name": "requests", "version": "2.19.1", "vulns": [{"id": "CVE-2018-18074"}]}]}')
"""


def corrupt(toy_audit):
    path = toy_audit.root / "honest.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def plant(toy_audit):
    toy_audit.write("module.py", VULNERABLE)


def leak(toy_audit):
    toy_audit.write("module.py", f"{SECRET}\n")


def dig_a_hole(toy_audit):
    toy_audit.register["S"] = []


def forget_a_review(toy_audit):
    toy_audit.reviewed -= timedelta(days=31)


def forget_an_acceptance(toy_audit):
    (threat,) = toy_audit.register["T"]
    accepted = {"status": "accepted", "owner": "someone", "reason": "for a day", "expires": "2026-01-01"}
    toy_audit.register["T"] = [
        {key: value for key, value in threat.items() if key not in ("mitigation", "requirements")} | accepted
    ]


@pytest.mark.parametrize(
    ("name", "options", "spoil"),
    [
        pytest.param("PERF-001", ["--target", "untrained"], None, id="PERF-001 constant answer"),
        pytest.param("EVA-001", ["--target", "fragile"], None, id="EVA-001 undefended"),
        pytest.param("EVA-002", ["--target", "fragile"], None, id="EVA-002 undefended"),
        pytest.param("POI-001", ["--target", "backdoored"], None, id="POI-001 backdoored"),
        pytest.param("ARTF-001", [], corrupt, id="ARTF-001 corrupted weights"),
        pytest.param("STAT-001", [], plant, id="STAT-001 vulnerable source"),
        pytest.param("STAT-002", [], plant, id="STAT-002 vulnerable source"),
        pytest.param("STAT-003", [], leak, id="STAT-003 a password"),
        pytest.param("REG-001", [], dig_a_hole, id="REG-001 a hole"),
        pytest.param("REG-002", [], forget_a_review, id="REG-002 a stale review"),
        pytest.param("REG-002", [], forget_an_acceptance, id="REG-002 an expired acceptance"),
    ],
)
def test_requirement_comes_out_not_met(toy_audit, name, options, spoil):
    if spoil:
        spoil(toy_audit)
    result = toy_audit.audit("--only", name, *options)
    assert result.ret == 1
    assert toy_audit.verdicts()[name]["status"] == "NOT_MET"
    result.stdout.fnmatch_lines([f"*The gate is CLOSED: not met: {name}*", "report: reports/*/report.html"])


def test_dep_001_comes_out_not_met(toy_audit, monkeypatch):
    stand_in = toy_audit.root / "pip_audit.py"
    stand_in.write_text(PIP_AUDIT, encoding="utf-8")
    monkeypatch.setattr(pip_audit, "COMMAND", (sys.executable, str(stand_in)))
    result = toy_audit.audit("--only", "DEP-001", offline=False)
    assert result.ret == 1
    assert "requests 2.19.1: CVE-2018-18074" in toy_audit.verdicts()["DEP-001"]["reason"]


@pytest.mark.parametrize(
    ("name", "control"),
    [
        pytest.param("PERF-001", {"target": "honest"}, id="PERF-001"),
        pytest.param("EVA-001", {"target": "honest"}, id="EVA-001"),
        pytest.param("POI-001", {"target": "honest"}, id="POI-001"),
        pytest.param("STAT-001", {"plant": "module.py"}, id="STAT-001"),
        pytest.param("STAT-002", {"plant": "module.py"}, id="STAT-002"),
        pytest.param("STAT-003", {"plant": "module.py"}, id="STAT-003"),
    ],
)
def test_a_control_that_is_not_bad_discredits_the_check(toy_audit, name, control):
    toy_audit.requirement(name)["control"] = control
    result = toy_audit.audit("--only", name)
    assert result.ret == 10
    verdict = toy_audit.verdicts()[name]
    assert verdict["status"] == "INCONCLUSIVE"
    assert "its control" in verdict["reason"]


@pytest.mark.parametrize(
    ("name", "eps", "control", "share"),
    [
        pytest.param("EVA-001", 0.0001, "touchy", "0.000", id="any touch breaks it, one step"),
        pytest.param("EVA-002", 0.0001, "touchy", "0.000", id="any touch breaks it, iterated"),
        pytest.param("EVA-001", 0.1, "fragile", "0.", id="every second touch breaks it"),
    ],
)
def test_a_control_that_is_brittle_discredits_the_attack(toy_audit, name, eps, control, share):
    requirement = toy_audit.requirement(name)
    requirement["threat_model"] = requirement["threat_model"] | {"eps": eps}
    toy_audit.policy["targets"]["touchy"] = {"factory": "tests.unit.toy:touchy"}
    requirement["control"] = {"target": control, "samples": 100}
    assert toy_audit.audit("--only", name).ret == 10
    verdict = toy_audit.verdicts()[name]
    assert verdict["status"] == "INCONCLUSIVE"
    assert (
        f"under random noise of the same size (linf, eps {eps}, 2 draws) it was right on {share}" in verdict["reason"]
    )
    faint = [note for note in toy_audit.report()["notes"] if "less than one step of a pixel" in note]
    assert len(faint) == (eps == 0.0001)


def test_a_control_that_falls_to_the_attack_alone_vouches_for_it(toy_audit):
    toy_audit.audit("--only", "EVA-001", "EVA-002")
    for verdict in toy_audit.verdicts().values():
        assert verdict["status"] == "MET"
        assert "right on 0.9" in verdict["evidence"]["control"]["detail"]
        assert "under random noise of the same size" in verdict["evidence"]["control"]["detail"]


def test_a_requirement_on_noise_itself_has_a_control_that_falls_to_noise(toy_audit):
    requirement = toy_audit.requirement("EVA-001")
    requirement["attack"] = {"name": "noise"}
    requirement["threat_model"] = requirement["threat_model"] | {"knowledge": "black-box label", "eps": 0.1}
    requirement["control"] = {"target": "touchy", "samples": 100}
    toy_audit.policy["targets"]["touchy"] = {"factory": "tests.unit.toy:touchy"}
    toy_audit.audit("--only", "EVA-001")
    assert toy_audit.verdicts()["EVA-001"]["status"] == "MET"


@pytest.mark.parametrize(
    ("name", "options", "spoil"),
    [
        pytest.param("PERF-001", ["--target", "untrained"], {"target": "broken"}, id="PERF-001"),
        pytest.param("EVA-001", ["--target", "fragile"], {"target": "broken"}, id="EVA-001"),
        pytest.param("POI-001", ["--target", "backdoored"], {"target": "broken"}, id="POI-001"),
        pytest.param("STAT-001", [], {"plant": "policies"}, id="STAT-001"),
    ],
)
def test_a_control_that_breaks_never_lifts_not_met(toy_audit, name, options, spoil):
    toy_audit.policy["targets"]["broken"] = {"factory": "tests.unit.toy:broken"}
    toy_audit.requirement(name)["control"] = spoil
    plant(toy_audit)
    result = toy_audit.audit("--only", name, "--allow-incomplete", *options)
    assert result.ret == 1
    verdict = toy_audit.verdicts()[name]
    assert verdict["status"] == "NOT_MET"
    assert verdict["evidence"]["control"]["status"] == "INCONCLUSIVE"
