"""Policies: what is shipped is valid, and every mistake is one line with file, YAML path, expectation and what came."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import yaml

from audit.errors import PolicyError
from audit.policy import Policy, load_policy, policy_schema
from audit.records import Profile

ROOT = Path(__file__).parents[3]
SHIPPED = ("policies/mnist.yaml", "policies/digits.yaml")
REQUIRED_IDS = (
    "PERF-001",
    "PERF-002",
    "EVA-001",
    "EVA-002",
    "EVA-003",
    "POI-001",
    "POI-002",
    "POI-003",
    "POI-004",
    "POI-005",
    "ARTF-001",
    "ARTF-002",
    "ARTF-003",
    "STAT-001",
    "STAT-002",
    "STAT-003",
    "DEP-001",
    "DEP-002",
    *(f"SERV-00{number}" for number in range(1, 9)),
    "REG-001",
    "REG-002",
)
DELETE = object()
QUICK = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # writes the same, ten times as fast, where it was built


@cache
def digits():
    return yaml.safe_load((ROOT / SHIPPED[1]).read_text(encoding="utf-8"))


def changed(path, value):
    """Return the digits policy with one place changed."""
    policy = copy.deepcopy(digits())
    place = policy
    for step in path[:-1]:
        place = place[step]
    if value is DELETE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return policy


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policy_is_valid_and_states_every_requirement(name):
    policy = load_policy(ROOT / name, ROOT).policy
    assert tuple(one.id for one in policy.requirements) == REQUIRED_IDS


@pytest.mark.parametrize("name", [*SHIPPED, "policies/any-classifier.yaml"])
def test_every_shipped_policy_bounds_the_class_that_fares_worst(name):
    """Where 97 per cent of the images are of one class, always answering that one clears any other floor."""
    stated = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["requirements"]
    floors = [one["bound"]["at_least"] for one in stated if one["bound"]["metric"] == "worst_class_accuracy"]
    assert floors
    assert min(floors) > 0.5


def test_schema_file_is_up_to_date():
    """When this fails, run: python -m audit schema > policies/policy.schema.json (and read the difference)."""
    assert (ROOT / "policies/policy.schema.json").read_text(encoding="utf-8") == policy_schema()


@pytest.mark.parametrize("name", SHIPPED)
def test_policy_survives_the_round_trip_through_yaml(name):
    policy = load_policy(ROOT / name, ROOT).policy
    text = yaml.safe_dump(policy.model_dump(mode="json", exclude_none=True))
    assert Policy.model_validate(yaml.safe_load(text)) == policy


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(
            ("requirement",), [], r"requirement: Extra inputs are not permitted \(got \[\]\)", id="unknown key"
        ),
        pytest.param(
            ("requirements", 2, "attack", "step"),
            3,
            r"requirements\[2\].attack.step: Extra inputs are not permitted \(got 3\)",
            id="unknown key of an attack",
        ),
        pytest.param(
            ("requirements", 0, "id"),
            "PERF-1",
            r"requirements\[0\].id: .*match pattern.* \(got 'PERF-1'\)",
            id="bad id",
        ),
        pytest.param(
            ("requirements", 2, "id"), "PERF-001", r"requirements\[2\].id: every id once", id="id given twice"
        ),
        pytest.param(
            ("requirements", 2, "bound"),
            {"metric": "robust_accuracy", "at_least": 0.9, "at_most": 0.95},
            r"requirements\[2\].bound: give exactly one of at_least, at_most \(got both\)",
            id="two bounds",
        ),
        pytest.param(
            ("requirements", 2, "bound"), {"metric": "robust_accuracy"}, r"bound: .*\(got neither\)", id="no bound"
        ),
        pytest.param(
            ("requirements", 2, "bound", "at_least"),
            float("nan"),
            r"requirements\[2\].bound.at_least: .*finite number \(got nan\)",
            id="NaN",
        ),
        pytest.param(
            ("requirements", 1, "bound", "confidence"),
            0.51,
            r"requirements\[1\].bound.confidence: .*greater than or equal to 0.9 \(got 0.51\)",
            id="confidence little better than a coin's",
        ),
        pytest.param(
            ("requirements", 5, "perturbation_above"),
            1.0,
            r"requirements\[5\].*less than or equal to 0.05 \(got 1.0\)",
            id="a backdoor that fires anywhere as its own yardstick",
        ),
        pytest.param(
            ("requirements", 2, "attack", "name"),
            "fgms",
            r"requirements\[2\].attack: .*'fgms' .*'fgsm', 'pgd', .*'corruption'",
            id="unknown attack",
        ),
        pytest.param(
            ("requirements", 2, "bound", "metric"),
            "accuracy",
            r"requirements\[2\].bound.metric: Input should be 'clean_accuracy', .* \(got 'accuracy'\)",
            id="unknown metric",
        ),
        pytest.param(
            ("requirements", 2, "bound", "metric"),
            "clean_accuracy",
            r"requirements\[2\].bound: metric: this family is judged on robust_accuracy \(got clean_accuracy\)",
            id="metric of another family",
        ),
        pytest.param(
            ("requirements", 2, "threat_model", "eps"), 0, r"threat_model.eps: .*greater than 0 \(got 0\)", id="eps 0"
        ),
        pytest.param(
            ("requirements", 13, "control", "plant"),
            "policies/controls/none.txt",
            r"requirements\[13\] \(STAT-001\): no such file \(got 'policies/controls/none.txt'\)",
            id="missing file",
        ),
        pytest.param(
            ("requirements", 2, "control", "target"),
            "basline",
            r"requirements\[2\].control.target: expected one of baseline, .* \(got 'basline'\)",
            id="unknown control target",
        ),
        pytest.param(
            ("requirements", 0, "references"), ["CWE-x"], r"references\[0\]: .*\(got 'CWE-x'\)", id="bad reference"
        ),
        pytest.param(("requirements", 0, "why"), DELETE, r"requirements\[0\].why: Field required", id="no reason"),
        pytest.param(
            ("requirements", 0, "control"), DELETE, r"requirements\[0\].control: Field required", id="no control"
        ),
        pytest.param(
            ("targets", "baseline", "sha256"), "0" * 64, r"sha256 pins a weight file", id="a pin and no weights"
        ),
        pytest.param(
            ("requirements", 2, "attack"),
            {"name": "deepfool"},
            r"deepfool works in l2 only \(got norm linf\)",
            id="norm",
        ),
        pytest.param(
            ("requirements", 2, "attack"),
            {"name": "corruption", "kind": "blur", "strength": 1.0},
            r"corruption keeps to no eps-ball, so it can only be an exhibit",
            id="corruption required",
        ),
        pytest.param(
            ("requirements", 2, "threat_model", "knowledge"),
            "black-box label",
            r"fgsm needs white-box knowledge \(got a black-box label threat model\)",
            id="more than the adversary knows",
        ),
        pytest.param(("requirements", 2, "crafted_on"), "baseline", r"give both or none", id="surrogate, no transfer"),
        pytest.param(("targets", "jpeg", "factory"), "a.b:c", r"exactly one of factory, wraps \(got both\)", id="both"),
        pytest.param(("targets", "jpeg", "defence"), DELETE, r"give wraps and defence together", id="no defence"),
        pytest.param(("targets", "jpeg", "wraps"), "nothing", r"targets.jpeg: expected one of", id="wraps nothing"),
        pytest.param(("targets", "jpeg", "wraps"), "squeezed", r"a target with a factory behind", id="wraps wrapped"),
        pytest.param(("targets", "jpeg", "draws"), 3, r"no weights, recipe or draws of its own", id="draws"),
        pytest.param(("targets", "baseline", "bounds"), [1, 0], r"the least before the greatest", id="bounds"),
        pytest.param(
            ("exhibits", "defences", 0, "target"), "hardened", r"expected a defended target", id="no defended target"
        ),
        pytest.param(
            ("targets", "poisoned", "poison", "count"), 0, r"targets.poisoned.poison.count: .*\(got 0\)", id="count 0"
        ),
        pytest.param(
            ("targets", "poisoned", "poison"),
            {"labels": "flipped", "fraction": 1.5},
            r"targets.poisoned.poison.fraction: Input should be less than or equal to 1 \(got 1.5\)",
            id="a fraction above 1",
        ),
        pytest.param(
            ("targets", "poisoned", "poison", "source_classes"),
            [7],
            r"targets.poisoned.poison: target_class: expected another class than the only source \(got 7\)",
            id="source is target",
        ),
        pytest.param(
            ("targets", "poisoned", "recipe"), DELETE, r"poison is done to what a recipe trains on", id="no recipe"
        ),
        pytest.param(
            ("requirements", 5, "reference_networks", "target"),
            "poisoned",
            r"requirements\[5\].reference_networks.target: expected a target of its own that is not poisoned",
            id="poisoned reference",
        ),
        pytest.param(
            ("requirements", 5, "reference_networks", "target"), "untrained", r"a target with a recipe", id="no recipe?"
        ),
        pytest.param(
            ("requirements", 5, "triggers", 0, "kind"), "circle", r"triggers\[0\]: .*'circle' .*'square'", id="trigger"
        ),
        pytest.param(("trainer",), DELETE, r"targets.baseline.recipe: needs a trainer", id="recipe without trainer"),
        pytest.param(
            ("exhibits", "scenarios", 1, "eps"), DELETE, r"scenarios\[1\]: give attack and eps together", id="no eps"
        ),
    ],
)
def test_mistake_is_one_line_that_says_where_and_what(tmp_path, path, value, message):
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.dump(changed(path, value), Dumper=QUICK), encoding="utf-8")
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(file, ROOT)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\na: 2\n", "key 'a' is given twice", id="duplicate key"),
        pytest.param("a: [1,\n", "expected YAML, got", id="no YAML"),
        pytest.param("- 1\n", r"\(top level\): Input should be a valid dictionary", id="a list"),
        pytest.param("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor", id="a tag"),
        pytest.param("", r"\(top level\)", id="empty file"),
        pytest.param("a: 2027-02-30\n", "expected YAML, got: day is out of range", id="no such day"),
        pytest.param("a: !!int x\n", "expected YAML, got", id="no number"),
        pytest.param("[" * 1000, "expected YAML, got", id="too deep"),
    ],
)
def test_file_that_is_no_policy_is_refused(tmp_path, text, message):
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=message):
        load_policy(file, ROOT)


def test_missing_policy_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"nowhere.yaml: expected a YAML file, got No such file"):
        load_policy(tmp_path / "nowhere.yaml", ROOT)


def test_profiles_change_limits_only():
    policy = load_policy(ROOT / SHIPPED[0], ROOT).policy
    pgd = next(one for one in policy.requirements if one.id == "EVA-002")
    assert pgd.samples.of(Profile.QUICK) == 2000
    assert pgd.samples.of(Profile.FULL) is None
