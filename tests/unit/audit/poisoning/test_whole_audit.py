"""The five checks in whole audits: a clean network, a poisoned one and a sanitised one, trained for real."""

from __future__ import annotations

import json

import pytest
import yaml

from audit.choose import choose
from audit.isolation.host import InThisProcess
from audit.poisoning import detectors, fingerprints
from tests.unit.audit.conftest import requirement

HOME = "tests.unit.poisonable"
CORNER = {"kind": "pixel", "row": 5, "column": 5}
POISON = {"trigger": CORNER, "target_class": 2, "count": 60}
REFERENCES = {"target": "clean", "count": 3}
IDS = ["POI-001", "POI-002", "POI-003", "POI-004", "POI-005"]


def poisoning(name, check, bound, **rest):
    return requirement(name, "poisoning", bound, check=check, **{"control": {"target": "poisoned"}, **rest})


def policy():
    excess = {"metric": "excess_attack_success_rate", "at_most": 0.1}
    return {
        "schema_version": 1,
        "dataset": f"{HOME}:data",
        "trainer": f"{HOME}:obtain",
        "target": "clean",
        "targets": {
            "clean": {"factory": f"{HOME}:build", "recipe": "plain"},
            "other": {"factory": f"{HOME}:build", "recipe": "another"},
            "poisoned": {"factory": f"{HOME}:build", "recipe": "plain", "poison": POISON},
            "sanitised": {"factory": f"{HOME}:build", "recipe": "plain", "sanitises": "poisoned"},
        },
        "requirements": [
            poisoning("POI-001", "triggers", excess, triggers=[CORNER], reference_networks=REFERENCES),
            poisoning(
                "POI-002",
                "inversion",
                {"metric": "inverted_trigger_ratio", "at_least": 0.5},
                reference_networks=REFERENCES,
                steps=120,
                if_not_run="report",
            ),
            poisoning("POI-003", "training-data", {"metric": "flagged_share", "at_most": 0.1}),
            poisoning("POI-004", "cure", excess, cured="sanitised", reference_networks=REFERENCES, most_lost=0.02),
            poisoning(
                "POI-005",
                "integrity",
                {"metric": "findings", "at_most": 0},
                training="filled in below",
                audit="filled in below",
                raw_files={"images": "a" * 64, "labels": "b" * 64},
                fingerprints="policies/pins.safetensors",
                control={"tamper": "copies"},
            ),
        ],
        "exhibits": {
            "poisonings": {
                "reference_networks": REFERENCES,
                "scenarios": [
                    {"label": "sixty marked", "poison": POISON, "quick": True},
                    {
                        "label": "label kept",
                        "poison": {**POISON, "labels": "clean"},
                        "quick": True,
                    },
                    {
                        "label": "next class",
                        "poison": {"trigger": CORNER, "labels": "all-to-all", "count": 240},
                        "quick": True,
                    },
                    {"label": "flipped", "poison": {"labels": "flipped", "count": 60}, "quick": True},
                    {"label": "only in full", "poison": {**POISON, "count": 90}},
                ],
            },
            "runtime": [{"target": "poisoned", "trigger": CORNER, "target_class": 2}],
        },
    }


@pytest.fixture
def audit(toy_audit, monkeypatch):
    """Give a toy repository with the poisoning policy, its pins written."""
    monkeypatch.setattr(detectors, "FITTING_STEPS", 200)
    toy_audit.policy = {**policy(), "requirements": policy()["requirements"][:4]}
    toy_audit.write("policies/toy.yaml", yaml.safe_dump(toy_audit.policy))
    dataset = choose("policies/toy.yaml", toy_audit.root, InThisProcess(), offline=True).dataset
    splits = {"training": dataset.training, "audit": dataset.audit}
    fingerprints.write(toy_audit.root / "policies/pins.safetensors", splits)
    toy_audit.policy = json.loads(json.dumps(policy()))  # nothing in it shared
    toy_audit.requirement("POI-005").update({name: fingerprints.digest_of(split) for name, split in splits.items()})
    return toy_audit


def statuses(audit):
    return {name: verdict["status"] for name, verdict in audit.verdicts().items()}


def test_a_clean_network_meets_all_five_and_everything_is_shown(audit):
    assert audit.audit("--exhibits").ret == 0
    verdicts, report = audit.verdicts(), audit.report()
    assert statuses(audit) == dict.fromkeys(IDS, "MET")
    assert {verdict["evidence"]["control"]["status"] for verdict in verdicts.values()} == {"NOT_MET"}
    shown = [one for one in report["exhibits"] if one["kind"] == "poisoning"]
    rows = {one["title"]: one["data"] for one in shown}
    assert list(rows) == ["sixty marked", "label kept", "next class", "flipped"]
    assert rows["sixty marked"]["attack"]["value"] > 0.95
    assert rows["sixty marked"]["attack_on_references"] < 0.1
    assert rows["label kept"]["attack"]["value"] < 0.2
    assert rows["next class"]["attack"]["value"] > 0.6
    assert rows["flipped"]["attack"] is None
    assert len(rows["sixty marked"]["done"]["rows"]) == 60
    assert rows["sixty marked"]["done"]["before"] != rows["sixty marked"]["done"]["after"]
    (strip,) = (one["data"] for one in report["exhibits"] if one["kind"] == "strip")
    assert [row["asked"] for row in strip["rows"]] == [0.01, 0.05]
    page = (audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    for heading in (
        "Known triggers",
        "Unknown triggers, by inversion",
        "Training data",
        "The cure",
        "Poisonings, side by side",
        "Triggered images at inference",
    ):
        assert f"<h3>{heading}</h3>" in page
    for picture in ("a stamped image for each trigger", "inverted trigger of each class", "by source and target class"):
        assert picture in page


def test_a_poisoned_network_is_found_out_three_times_and_a_sanitised_one_is_not(audit):
    audit.policy["exhibits"] = {}
    assert audit.audit("--target", "poisoned").ret == 1
    assert statuses(audit) == {**dict.fromkeys(IDS[:3], "NOT_MET"), **dict.fromkeys(IDS[3:], "MET")}
    assert audit.audit("--target", "sanitised").ret == 0
    assert statuses(audit) == dict.fromkeys(IDS, "MET")


def test_networks_of_another_recipe_are_shown_and_not_judged(audit):
    audit.policy["exhibits"] = {}
    assert audit.audit("--target", "other", "--only", "POI-002", "POI-005").ret == 0
    verdict = audit.verdicts()["POI-002"]
    assert verdict["status"] == "NOT_RUN"
    assert "not made by the recipe of the reference networks (clean)" in verdict["reason"]
    assert verdict["evidence"]["control"]["status"] == "NOT_MET"
    assert "<h3>Unknown triggers, by inversion</h3>" in (audit.root / "reports/latest/report.html").read_text()


def test_changed_data_are_not_met_and_named(audit):
    audit.requirement("POI-005").update(training="0" * 64)
    audit.requirement("POI-005")["raw_files"]["labels"] = "c" * 64
    assert audit.audit("--only", "POI-005").ret == 1
    findings = audit.verdicts()["POI-005"]["evidence"]["findings"]
    assert [(one["rule"], one["path"]) for one in findings] == [
        ("file swapped", "labels"),
        ("digest differs", "training"),
    ]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("targets", "sanitised", "sanitises"),
            "clean",
            "targets.sanitised.sanitises: expected a target that is poisoned",
        ),
        (("targets", "sanitised", "recipe"), None, "targets.sanitised: sanitises says what a recipe trains on"),
        (("requirements", 3, "cured"), "clean", r"requirements[3].cured: expected a target that sanitises"),
        (
            ("requirements", 2, "control", "target"),
            "clean",
            "requirements[2].control.target: expected a target that is",
        ),
        (("requirements", 4, "fingerprints"), "no/such.file", "requirements[4] (POI-005): no such file"),
        (("requirements", 1, "check"), "guess", "requirements[1]"),
        (
            ("exhibits", "poisonings", "scenarios", 1, "poison", "count"),
            9999,
            "exhibits.poisonings.scenarios[1].poison: ",
        ),
        (
            ("exhibits", "poisonings", "scenarios", 0, "poison", "target_class"),
            4,
            "exhibits.poisonings.scenarios[0].poison: target_class: expected classes in 0..3 (got 4)",
        ),
        (
            ("exhibits", "poisonings", "reference_networks", "target"),
            "poisoned",
            "expected a target of its own that is",
        ),
        (("exhibits", "runtime", 0, "target"), "nobody", "exhibits.runtime[0].target: expected one of clean"),
    ],
)
def test_what_cannot_be_is_a_policy_error_with_its_path(audit, place, value, message):
    node = audit.policy
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    result = audit.audit()
    assert result.ret == 4
    assert message in result.stderr.str() + result.stdout.str()


def test_poison_without_training_data_is_a_policy_error(audit):
    audit.policy["dataset"] = "tests.unit.toy:data"
    audit.policy["requirements"] = audit.policy["requirements"][:1]
    result = audit.audit()
    assert result.ret == 4
    assert (
        "targets.poisoned.poison: expected a dataset with a training split to poison (got none)" in result.stderr.str()
    )


def test_an_empty_training_split_is_a_usage_error(audit):
    audit.policy["dataset"] = "tests.unit.poisonable:nothing_to_train_on"
    result = audit.audit()
    assert result.ret == 4
    assert "training split: expected at least one label" in result.stderr.str()
