"""What one policy loosens of another: every way in which a gate was seen to be opened by its policy is named."""

from __future__ import annotations

import copy
import re
from datetime import date
from pathlib import Path

import pytest
import yaml

from audit import cli

ROOT = Path(__file__).parents[3]
SHIPPED = ("policies/mnist.yaml", "policies/digits.yaml")
QUICK = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # writes the same, ten times as fast, where it was built


@pytest.fixture(scope="module")
def digits():
    return yaml.safe_load((ROOT / "policies/digits.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def compared(digits, tmp_path, monkeypatch, capsys):
    """Give a function that compares the digits policy with a changed one; returns exit code and output."""
    monkeypatch.chdir(ROOT)

    def run(change, *words):
        policy = copy.deepcopy(digits)
        change(policy, {one["id"]: one for one in policy["requirements"]})
        (tmp_path / "new.yaml").write_text(yaml.dump(policy, Dumper=QUICK, allow_unicode=True), encoding="utf-8")
        code = cli.main(["compare-policy", "policies/digits.yaml", str(tmp_path / "new.yaml"), *words])
        return code, capsys.readouterr().out

    return run


def said(out, heading):
    """Return the lines below a heading, without their marks and with single spaces."""
    _, found, after = out.partition(f"\n{heading}\n")
    lines = after.partition("\n\n")[0].splitlines() if found else []
    return [re.sub(r"\s+", " ", line.strip(" !")) for line in lines]


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_is_loosened_of_the_same_policy(monkeypatch, capsys, name):
    monkeypatch.chdir(ROOT)
    assert cli.main(["compare-policy", name, name]) == 0
    assert capsys.readouterr().out.endswith("\nNothing changed.\n")


def test_defaults_spelt_out_change_nothing(compared):
    def spell_out(policy, ids):
        ids["EVA-001"]["if_not_run"], ids["EVA-001"]["seed"] = "block", 0

    assert compared(spell_out)[1].endswith("\nNothing changed.\n")


LOOSENINGS = {
    "a lower floor": (
        lambda policy, ids: ids["EVA-002"]["bound"].update(at_least=0.5),
        "EVA-002 bound.at_least: 0.75 -> 0.5",
    ),
    "less confidence": (
        lambda policy, ids: ids["EVA-002"]["bound"].update(confidence=0.9),
        "EVA-002 bound.confidence: 0.95 -> 0.9",
    ),
    "a smaller eps": (
        lambda policy, ids: ids["EVA-002"]["threat_model"].update(eps=0.0001),
        "EVA-002 threat_model.eps: 0.1 -> 0.0001",
    ),
    "fewer samples": (
        lambda policy, ids: ids["PERF-001"].update(samples={"quick": 30, "full": "all"}),
        "PERF-001 samples.quick: all -> 30",
    ),
    "fewer steps": (
        lambda policy, ids: ids["EVA-002"]["attack"].update(steps=1),
        "EVA-002 attack.steps: 40 -> 1",
    ),
    "another attack": (
        lambda policy, ids: ids["EVA-002"].update(attack={"name": "fgsm"}),
        "EVA-002 attack: pgd -> fgsm",
    ),
    "another control": (
        lambda policy, ids: ids["EVA-001"].update(control={"builtin": "undefended"}),
        'EVA-001 control: {"target": "baseline"} -> {"builtin": "undefended"}',
    ),
    "fewer samples of the control": (
        lambda policy, ids: ids["EVA-001"]["control"].update(samples=5),
        "EVA-001 control.samples: 500 -> 5",
    ),
    "a control of another make": (
        lambda policy, ids: policy["targets"].update(baseline=policy["targets"]["fgsm_hardened"]),
        "targets.baseline.recipe baseline -> fgsm_hardened",
    ),
    "no block": (
        lambda policy, ids: ids["EVA-003"].update(if_not_run="report"),
        "EVA-003 if_not_run: block -> report",
    ),
    "a dropped requirement": (
        lambda policy, ids: policy["requirements"].remove(ids["EVA-003"]),
        "EVA-003 requirement removed: Robust accuracy under the standard AutoAttack ensemble keeps its floor",
    ),
    "an easier one under a new id": (
        lambda policy, ids: ids["EVA-003"].update(id="EVA-103"),
        "EVA-003 requirement removed: Robust accuracy under the standard AutoAttack ensemble keeps its floor",
    ),
    "a trigger fewer": (
        lambda policy, ids: ids["POI-001"]["triggers"].pop(0),
        'POI-001 triggers: removed {"kind": "square"',
    ),
    "a letter more": (  # the register may then cite it for that category
        lambda policy, ids: ids["PERF-001"].update(stride=["D", "T"]),
        "PERF-001 stride: added T",
    ),
    "a waived advisory": (
        lambda policy, ids: ids["DEP-001"].update(
            waive=[{"id": "CVE-2099-5", "package": "numpy", "reason": "only a toy", "owner": "us",
                    "expires": date(2027, 1, 1)}]
        ),
        'DEP-001 waive: added {"id": "CVE-2099-5", "package": "numpy"',
    ),
    "other data": (
        lambda policy, ids: policy.update(dataset="tests.unit.toy:data"),
        "dataset model_under_test.data:digits -> tests.unit.toy:data",
    ),
    "another audited target": (
        lambda policy, ids: policy.update(target="fgsm_hardened"),
        "target hardened -> fgsm_hardened",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line"), LOOSENINGS.values(), ids=LOOSENINGS)
def test_what_is_loosened_is_named_and_exits_1(compared, change, line):
    code, out = compared(change)
    assert code == 1
    assert [one for one in said(out, "loosened") if one.startswith(line)]


def test_what_is_tightened_or_only_changed_stands_apart_and_exits_0(compared):
    def change(policy, ids):
        ids["EVA-002"]["bound"]["at_least"] = 0.8
        ids["EVA-002"]["attack"] = {"name": "autoattack"}
        ids["EVA-002"]["title"] = "Another title of the same"
        policy["targets"]["hardened"]["sha256"] = "0" * 64
        policy["requirements"].append(ids["EVA-001"] | {"id": "EVA-101"})

    code, out = compared(change)
    assert code == 0
    assert said(out, "loosened") == []
    assert said(out, "tightened") == [
        "EVA-002 attack: pgd -> autoattack",
        "EVA-002 bound.at_least: 0.75 -> 0.8",
        "EVA-101 requirement added: Robust accuracy under FGSM keeps its floor",
    ]
    changed = said(out, "changed")
    assert [line.split()[0] for line in changed] == ["EVA-002", "targets.hardened.sha256"]
    assert out.endswith("Changes that count: none. Others: tightened 3, changed 2.\n")


def test_what_an_extending_policy_drops_is_named(tmp_path, monkeypatch, capsys, digits):
    mine = {"extends": "policies/digits.yaml", "requirements": [digits["requirements"][1]]}
    (tmp_path / "mine.yaml").write_text(yaml.dump(mine, Dumper=QUICK), encoding="utf-8")
    monkeypatch.chdir(ROOT)
    assert cli.main(["compare-policy", "policies/digits.yaml", str(tmp_path / "mine.yaml")]) == 1
    removed = [line for line in said(capsys.readouterr().out, "loosened") if "requirement removed" in line]
    assert len(removed) == len(digits["requirements"]) - 1


WAIVER = "waivers:\n  - {{id: EVA-001, reason: a reason long enough, owner: someone, expires: {}}}\n"


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        pytest.param("waivers: []\n", WAIVER.format("2027-01-01"), 1, "EVA-001 waiver added: a reason", id="added"),
        pytest.param(WAIVER.format("2027-01-01"), "waivers: []\n", 0, "EVA-001 waiver removed: a", id="removed"),
        pytest.param(
            WAIVER.format("2027-01-01"), WAIVER.format("2027-02-01"), 1,
            "EVA-001 waiver, expires: 2027-01-01 -> 2027-02-01", id="longer",
        ),
        pytest.param(
            WAIVER.format("2027-02-01"), WAIVER.format("2027-01-01"), 0,
            "EVA-001 waiver, expires: 2027-02-01 -> 2027-01-01", id="shorter",
        ),
    ],
)  # fmt: skip
def test_waivers_are_compared_where_they_are_named(compared, tmp_path, old, new, code, line):
    for name, text in (("w-old", old), ("w-new", new)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    got, out = compared(lambda policy, ids: None, "--waivers", str(tmp_path / "w-old"), str(tmp_path / "w-new"))
    assert got == code
    assert [one for one in said(out, "loosened" if code else "tightened") if one.startswith(line)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "expected YAML, got", id="no YAML"),
        pytest.param("schema_version: 1\n", "Field required", id="no policy"),
        pytest.param(None, "expected a YAML file, got No such file", id="missing"),
    ],
)
def test_what_cannot_be_read_is_exit_4_and_one_line(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "new.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert cli.main(["compare-policy", "policies/digits.yaml", str(file)]) == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_no_control_character_of_a_policy_reaches_the_terminal(compared):
    code, out = compared(lambda policy, ids: ids["EVA-001"].update(id="EVA-101", title="gone \x1b[2J\u202e for good"))
    assert code == 1
    assert "gone" in out
    assert not [letter for letter in out if letter != "\n" and not letter.isprintable()]
