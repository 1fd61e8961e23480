"""What a policy extends: merged key by key, and what it drops or replaces is never left unsaid."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from audit.gate import Circumstances, decide
from audit.policy import load_policy
from audit.records import Evidence, IfNotRun, Status, Verdict

ROOT = Path(__file__).parents[3]
BASE = "policies/digits.yaml"
QUICK = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # writes the same, ten times as fast, where it was built


@pytest.fixture(scope="module")
def base():
    return yaml.safe_load((ROOT / BASE).read_text(encoding="utf-8"))


@pytest.fixture
def extension(tmp_path):
    """Give a function that writes a policy with these keys on top of the shipped one, and says what became of that."""

    def load(**keys):
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.dump({"schema_version": 1, "extends": BASE, **keys}, Dumper=QUICK), encoding="utf-8")
        return load_policy(file, ROOT).extension

    return load


def sentence(extension):
    """Return the gate's sentence for one requirement that is met, under a policy that extends another."""
    met = Verdict(requirement_id="EVA-001", status=Status.MET, reason="so", evidence=Evidence())
    around = Circumstances(extends=extension.base, dropped=extension.dropped, replaced=extension.replaced)
    return decide([met], {"EVA-001": IfNotRun.BLOCK}, around).sentence


def easy(base):
    one = copy.deepcopy(next(one for one in base["requirements"] if one["id"] == "EVA-001"))
    one["bound"]["at_least"] = 0.1
    one["samples"] = {"quick": 30, "full": 30}
    return one


def test_policy_with_one_easy_requirement_says_which_inherited_ones_it_drops(base, extension):
    found = extension(requirements=[easy(base)])
    others = tuple(one["id"] for one in base["requirements"] if one["id"] != "EVA-001")
    assert (found.base, found.dropped, found.replaced) == (BASE, others, ("EVA-001",))
    assert sentence(found).endswith(
        f" Of {BASE}, which it extends, the policy drops {len(others)} requirements ({', '.join(others)}) "
        "and replaces EVA-001."
    )


def test_requirement_under_another_id_drops_them_all(base, extension):
    found = extension(requirements=[easy(base) | {"id": "EVA-101"}])
    assert len(found.dropped) == len(base["requirements"])
    assert found.replaced == ()


def test_policy_that_only_adds_has_nothing_to_say(base, extension):
    found = extension(requirements=base["requirements"], targets={"mine": base["targets"]["hardened"]})
    assert (found.dropped, found.replaced) == ((), ())
    assert "extends" not in sentence(found)
    assert extension().dropped == ()


def test_a_control_and_data_of_another_make_are_said(base, extension):
    found = extension(dataset="tests.unit.toy:data", targets={"baseline": base["targets"]["fgsm_hardened"]})
    assert found.replaced == ("dataset", "targets.baseline")
    assert sentence(found).endswith(f" Of {BASE}, which it extends, the policy replaces dataset, targets.baseline.")


def test_nothing_that_a_base_calls_its_requirements_reaches_the_terminal_raw(tmp_path, base):
    odd = {**base, "requirements": [*base["requirements"], {"id": "\x1b[2Jgone"}, "no requirement", {"title": "none"}]}
    (tmp_path / "odd.yaml").write_text(yaml.dump(odd, Dumper=QUICK), encoding="utf-8")
    mine = {"extends": str(tmp_path / "odd.yaml"), "requirements": [base["requirements"][0]]}
    (tmp_path / "mine.yaml").write_text(yaml.dump(mine, Dumper=QUICK), encoding="utf-8")
    found = load_policy(tmp_path / "mine.yaml", ROOT).extension
    assert found.dropped[-1] == " [2Jgone"
    assert "\x1b" not in sentence(found)


def test_gate_of_a_whole_audit_says_what_its_policy_drops(toy_audit):
    easy = toy_audit.requirement("PERF-001")
    mine = {"extends": "policies/toy.yaml", "requirements": [{**easy, "samples": {"quick": 30, "full": 30}}]}
    toy_audit.write("policies/mine.yaml", yaml.safe_dump(mine))
    toy_audit.audit("--policy", "policies/mine.yaml")
    dropped = [one["id"] for one in toy_audit.policy["requirements"] if one is not easy]
    said = f"the policy drops {len(dropped)} requirements ({', '.join(dropped)}) and replaces PERF-001."
    assert toy_audit.report()["gate"]["sentence"].endswith(f" Of policies/toy.yaml, which it extends, {said}")


def test_policy_that_extends_none_has_no_extension():
    assert load_policy(ROOT / BASE, ROOT).extension is None
