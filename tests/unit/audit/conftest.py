"""A whole audit in a temporary repository: the real tests, a toy policy, toy networks."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save

from audit.artifacts import examine
from audit.dependencies import bom
from audit.loading import SUBSET_SEED
from audit.process import run
from tests.unit import toy

ROOT = Path(__file__).parents[3]
TOY = "tests.unit.toy"
TARGETS = ("fragile", "undefended", "untrained", "one_sided", "backdoored", "probabilities")


def requirement(name, family, bound, **rest):
    """Return a requirement with everything that every one must state."""
    return {
        "id": name,
        "title": f"Requirement {name}",
        "family": family,
        "why": "Because a toy needs a reason too.",
        "severity": "high",
        "stride": ["T"],
        "references": ["CWE-1039"],
        "threat_model": {"goal": "any", "knowledge": "white-box", "capability": "any"},
        "bound": bound,
        **rest,
    }


def toy_policy():
    """Return a policy with one requirement of every family; the honest network meets them all."""
    linf = {"goal": "any wrong class", "knowledge": "white-box", "norm": "linf", "eps": 0.1}
    count = {"metric": "findings", "at_most": 0}
    plant = {"plant": "policies/controls/vulnerable.py.txt"}
    return {
        "schema_version": 1,
        "dataset": f"{TOY}:data",
        "target": "honest",
        "targets": {
            "honest": {
                "factory": f"{TOY}:honest",
                "weights": "honest.safetensors",
                "sha256": "filled in by the fixture",
            },
            **{name: {"factory": f"{TOY}:{name}"} for name in TARGETS},
        },
        "requirements": [
            requirement(
                "PERF-001",
                "performance",
                {"metric": "clean_accuracy", "at_least": 0.95},
                control={"target": "untrained"},
            ),
            requirement(
                "EVA-001",
                "evasion",
                {"metric": "robust_accuracy", "at_least": 0.9},
                threat_model=linf,
                attack={"name": "fgsm"},
                control={"target": "undefended", "samples": 100},
            ),
            requirement(
                "EVA-002",
                "evasion",
                {"metric": "robust_accuracy", "at_least": 0.9},
                threat_model=linf,
                attack={"name": "pgd", "steps": 5, "step_size": 0.05},
                control={"target": "undefended", "samples": 100},
            ),
            requirement(
                "POI-001",
                "poisoning",
                {"metric": "excess_attack_success_rate", "at_most": 0.05},
                check="triggers",
                triggers=[{"kind": "pixel", "row": 5, "column": 5}],
                control={"target": "backdoored"},
            ),
            requirement("ARTF-001", "artifact", count, check="loading", control={"payload": "marker-file"}),
            requirement("STAT-001", "static", count, scanner={"name": "bandit"}, control=plant),
            requirement(
                "STAT-002",
                "static",
                count,
                scanner={"name": "semgrep", "rules": "policies/semgrep"},
                control=plant,
            ),
            requirement(
                "STAT-003",
                "static",
                count,
                scanner={"name": "detect-secrets"},
                control={"plant": "policies/controls/secrets.py.txt"},
            ),
            requirement(
                "DEP-001",
                "dependency",
                count,
                check="advisories",
                min_records=1,
                min_packages=1,
                control={"canaries": [{"package": "requests", "version": "2.19.1", "advisory": "CVE-2018-18074"}]},
                if_not_run="report",
            ),
            requirement(
                "REG-001",
                "register",
                count,
                check="coverage",
                register_file="policies/stride.yaml",
                elements=["toy"],
                control={"register_file": "policies/controls/stride-with-a-hole.yaml"},
            ),
            requirement(
                "REG-002",
                "register",
                count,
                check="dates",
                register_file="policies/stride.yaml",
                stale_days=30,
                control={"register_file": "policies/controls/stride-out-of-date.yaml"},
            ),
        ],
    }


NOT_APPLICABLE = {"not_applicable": "There is nothing in this toy cell."}
MITIGATED = {
    "id": "T-TOY-T-1",
    "description": "Somebody moves the pixels of an image.",
    "scenario": "The image is sent, and read as another class.",
    "attacker": "anyone",
    "impact": "low",
    "likelihood": "likely",
    "mitigation": "the network looks at all of them",
    "status": "mitigated",
    "requirements": ["EVA-001"],
}


INI = """
[pytest]
addopts = --disable-plugin-autoload -p pytest_metadata.plugin -p pytest_html.plugin -p xdist.plugin -p no:cacheprovider
filterwarnings = ignore:Module already imported
"""


class Toy:
    """A temporary repository; change ``policy`` or ``register`` before ``audit``."""

    def __init__(self, pytester):
        self.pytester, self.root = pytester, pytester.path
        self.policy = toy_policy()
        self.reviewed = datetime.now(UTC).date()
        self.register = {letter: NOT_APPLICABLE for letter in "SRIDE"} | {"T": [MITIGATED]}
        pytester.makeconftest("pytest_plugins = ['audit.plugin']")
        pytester.makeini(INI)
        shutil.copytree(
            ROOT / "tests", self.root / "tests", ignore=shutil.ignore_patterns("unit", "__init__.py", "__pycache__")
        )
        shutil.copytree(ROOT / "policies/controls", self.root / "policies/controls")
        shutil.copytree(
            ROOT / "policies/semgrep", self.root / "policies/semgrep", ignore=shutil.ignore_patterns("*.py")
        )
        weights = save(toy.honest().state_dict())
        (self.root / "honest.safetensors").write_bytes(weights)
        self.policy["targets"]["honest"]["sha256"] = hashlib.sha256(weights).hexdigest()
        self.write("module.py", "def answer() -> int:\n    return 42\n")
        self.git("init", "--quiet")
        self.write(".gitignore", "/tests/\n/conftest.py\n__pycache__/\n")

    def write(self, name, text):
        """Write a file of the repository."""
        (self.root / name).write_text(text, encoding="utf-8")

    def git(self, *words):
        """Run git in the repository."""
        done = run(["git", *words], cwd=self.root, seconds=30)
        assert done.code == 0, done.stderr

    def waive(self, name, until=None):
        """Waive a requirement until a day, or for a month."""
        until = until or datetime.now(UTC).date() + timedelta(days=30)
        waiver = {"id": name, "reason": "accepted for the test", "owner": "someone", "expires": until}
        self.write("policies/waivers.yaml", yaml.safe_dump({"waivers": [waiver]}))

    def requirement(self, name):
        """Return one requirement of the policy, to be changed."""
        return next(one for one in self.policy["requirements"] if one["id"] == name)

    def prepare(self):
        """Write policy and register as they are now."""
        self.write("policies/toy.yaml", yaml.safe_dump(copy.deepcopy(self.policy)))
        element = {"id": "toy", "title": "Toy", "kind": "process", "boundary": "here", "cells": self.register}
        boundary = {"id": "here", "title": "Here", "column": 0}
        elements = [element | {"reviewed": self.reviewed}]
        self.write(
            "policies/stride.yaml",
            yaml.safe_dump({"schema_version": 2, "boundaries": [boundary], "elements": elements}),
        )
        self.git("add", "module.py")

    def audit(self, *options, offline=True, in_process=True, supervised=False, **how):
        """Run the audit by pytest, or by ``python -m audit run``; returns its result. ``how`` goes to pytester."""
        self.prepare()
        alone = [] if "-j" in options else ["-j", "1"]  # toys are too small to be worth a process
        order = [] if "--order-seed" in options else ["--order-seed", str(SUBSET_SEED)]  # a drawn one would be no test
        words = ["--policy", "policies/toy.yaml", *(["--offline"] if offline else []), *alone, *order, *options]
        if supervised:
            return self.pytester.run(sys.executable, "-m", "audit", "run", *words, **how)
        start = self.pytester.runpytest_inprocess if in_process else self.pytester.runpytest_subprocess
        return start("tests", *words, **how)

    def verdicts(self):
        """Return the verdicts of the last audit by id."""
        return {one["requirement_id"]: one for one in self.report()["verdicts"]}

    def report(self):
        """Return audit.json of the last audit."""
        return json.loads((self.root / "reports/latest/audit.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def whatever_is_audited():
    """Give what is the same whatever is audited, made by the first audit that wants it: (module, name, value)."""
    made = cache(lambda command, seconds: run(command, cwd=ROOT, seconds=seconds))
    invalid = bom.invalid
    judged = cache(lambda document: invalid(json.loads(document)))
    return (
        (examine, "payload_control", cache(examine.payload_control)),  # fifty-three processes
        (bom, "run", lambda command, *, cwd, seconds: made(tuple(command), seconds)),
        (bom, "invalid", lambda document: judged(json.dumps(document))),
    )


@pytest.fixture
def _children_go_unmeasured(monkeypatch):
    """Have processes start without coverage, which takes them longer than their work where that is no code of ours."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def toy_audit(pytester, monkeypatch, whatever_is_audited, _children_go_unmeasured):
    """Give a temporary repository that holds a toy audit."""
    for module, name, value in whatever_is_audited:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("MODEL_AUDIT_CACHE", str(pytester.path / ".cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / ".state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the runs in a process of their own
    return Toy(pytester)
