"""How pytest drives an audit: each rule of docs/architecture.md, section 4, seen to hold."""

from __future__ import annotations

import json
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from audit import plugin, tools
from audit.isolation.host import InThisProcess
from audit.isolation.source import HostedSource
from tests.unit.audit.conftest import INI


def test_honest_network_opens_the_gate(toy_audit):
    result = toy_audit.audit()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "policy: policies/toy.yaml, as named",
            "target: honest on cpu, 1 process",
            "expected: no run of this kind to go by",
            "*PERF-001* MET*",
            "*EVA-001* MET: robust_accuracy 1.0000*",
            "*DEP-001* SKIPPED*",
            "The gate is OPEN. Of 11 requirements 10 met, 0 not met, 0 inconclusive, 1 not examined.",
            "report: reports/*/report.html",
        ]
    )
    report = toy_audit.report()
    assert report["gate"]["open"]
    assert [one["requirement_id"] for one in report["verdicts"]][-2:] == ["REG-001", "REG-002"]
    assert report["policy"]["left_out"] == []


def test_report_folder_holds_what_it_promises(toy_audit):
    toy_audit.audit("--only", "EVA-001", "POI-001")
    latest = toy_audit.root / "reports/latest"
    assert {path.name for path in latest.iterdir()} == {
        "audit.json",
        "audit.sarif",
        "evidence",
        "junit.xml",
        "report.html",
    }
    assert latest.is_symlink()
    assert not latest.readlink().is_absolute()
    with np.load(latest / "evidence/EVA-001.npz", allow_pickle=False) as arrays:
        assert len(arrays["after"]) == 400
    assert (latest / "junit.xml").read_text(encoding="utf-8").count('<property name="verdict"') == 2


def test_report_dir_moves_everything(toy_audit):
    toy_audit.audit("--only", "PERF-001", "--report-dir", "elsewhere/deep")
    assert (toy_audit.root / "elsewhere/deep/latest/report.html").is_file()
    assert not (toy_audit.root / "reports").exists()


def test_no_path_of_this_machine_reaches_a_report(toy_audit):
    (toy_audit.root / "honest.safetensors").unlink()
    toy_audit.audit("--only", "PERF-001", "ARTF-001", "DEP-001")
    for name in ("report.html", "audit.json", "audit.sarif", "junit.xml"):
        text = (toy_audit.root / "reports/latest" / name).read_text(encoding="utf-8")
        assert str(toy_audit.root) not in text, name
        assert str(Path.home()) not in text, name


def test_released_file_that_is_damaged_closes_the_gate_by_artf_001(toy_audit):
    path = toy_audit.root / "honest.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    result = toy_audit.audit("--only", "PERF-001", "ARTF-001")
    assert result.ret == 1
    verdicts = toy_audit.verdicts()
    assert verdicts["ARTF-001"]["status"] == "NOT_MET"
    assert verdicts["PERF-001"]["status"] == "INCONCLUSIVE"
    assert "expected SHA-256" in verdicts["PERF-001"]["reason"]


def test_a_new_threshold_is_one_entry_and_no_python(toy_audit):
    entry = json.loads(json.dumps(toy_audit.requirement("EVA-001")))
    entry["id"], entry["threat_model"]["eps"] = "EVA-003", 0.05
    toy_audit.policy["requirements"].append(entry)
    result = toy_audit.audit("--only", "EVA-001", "EVA-003")
    result.assert_outcomes(passed=3)
    assert toy_audit.verdicts()["EVA-003"]["status"] == "MET"


def test_missing_scanner_is_not_run_and_exit_10(toy_audit, monkeypatch):
    monkeypatch.setattr(tools, "site_folders", lambda: [str(toy_audit.root)])
    result = toy_audit.audit("--only", "STAT-002", "PERF-001")
    assert result.ret == 10
    verdict = toy_audit.verdicts()["STAT-002"]
    assert verdict["status"] == "NOT_RUN"
    assert "semgrep: expected beside this Python" in verdict["reason"]


def test_allow_incomplete_opens_the_gate_and_says_so_first(toy_audit):
    result = toy_audit.audit("--only", "DEP-001", "PERF-001", "--block-not-run")
    assert result.ret == 10
    result = toy_audit.audit("--only", "DEP-001", "PERF-001", "--block-not-run", "PERF-001")
    assert result.ret == 0
    assert "--block-not-run PERF-001" in toy_audit.report()["provenance"]["command"]
    result = toy_audit.audit("--only", "DEP-001", "PERF-001", "--block-not-run", "DEP-001")
    assert result.ret == 10
    result = toy_audit.audit("--only", "DEP-001", "PERF-001", "--block-not-run", "--allow-incomplete")
    assert result.ret == 0
    assert toy_audit.report()["gate"]["sentence"].startswith("INCOMPLETE, allowed by --allow-incomplete: DEP-001")


def test_partial_audit_says_so_and_never_passes_by_silence(toy_audit):
    result = toy_audit.audit("--only", "DEP-001")
    assert result.ret == 10
    report = toy_audit.report()
    assert report["gate"]["sentence"].startswith("PARTIAL audit. ")
    assert "REG-001" in report["policy"]["left_out"]


def test_liar_is_inconclusive(toy_audit):
    result = toy_audit.audit("--target", "probabilities", "--only", "EVA-001")
    assert result.ret == 10
    assert "remove the softmax" in toy_audit.verdicts()["EVA-001"]["reason"]


STATE = """
import torch
from tests.unit import toy

class Stateful(type(toy.honest())):
    def __init__(self):
        super().__init__(toy.halves())
        self.attacked = []
        self.register_buffer("count", torch.zeros(1))

    def note(self, x):
        raise NotImplementedError

    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad:
            self.note(x)
        return super().forward(x) / (1000 if self.attacked else 1)

class Remembering(Stateful):
    def note(self, x):
        self.attacked.append(len(x))

class Writing(Stateful):
    def note(self, x):
        self.count += 1
"""


@pytest.mark.parametrize(
    ("network", "probe"),
    [("Remembering", "the same answers in a fresh process"), ("Writing", "untouched")],
    ids=["in a list", "in a buffer"],
)
def test_network_that_notes_that_it_is_attacked_is_inconclusive(toy_audit, network, probe):
    toy_audit.write("state.py", STATE)
    toy_audit.policy["targets"]["stateful"] = {"factory": f"state.py:{network}"}
    result = toy_audit.audit("--target", "stateful", "--only", "EVA-001")
    assert result.ret == 10
    verdict = toy_audit.verdicts()["EVA-001"]
    assert verdict["status"] == "INCONCLUSIVE"
    failed = {one["name"] for one in verdict["evidence"]["probes"] if not one["passed"]}
    assert failed == {probe}, "nothing else would have given it away"


def test_network_that_was_refused_once_stays_refused_for_the_run(toy_audit, monkeypatch):
    monkeypatch.setattr(plugin, "host", InThisProcess)  # where a network may leave a file behind
    toy_audit.policy["targets"]["moody"] = {"factory": "tests.unit.toy:moody"}
    result = toy_audit.audit("--target", "moody", "--only", "PERF-001", "EVA-001", "EVA-002")
    assert result.ret == 10
    verdicts = toy_audit.verdicts().values()
    assert {one["status"] for one in verdicts} == {"INCONCLUSIVE"}
    assert len({one["reason"] for one in verdicts}) == 1
    assert all("the network draws at random in eval mode" in one["reason"] for one in verdicts)
    assert toy_audit.report()["target"]["error"].startswith("TargetError: target moody: expected the same logits")


def test_control_that_cannot_be_built_is_told_to_everybody_who_needs_it(toy_audit, monkeypatch):
    monkeypatch.setattr(plugin, "host", InThisProcess)
    toy_audit.policy["targets"]["moody"] = {"factory": "tests.unit.toy:moody"}
    for name in ("PERF-001", "EVA-001"):
        toy_audit.requirement(name)["control"]["target"] = "moody"
    toy_audit.audit("--only", "PERF-001", "EVA-001")
    details = {one["evidence"]["control"]["detail"] for one in toy_audit.verdicts().values()}
    assert len(details) == 1
    assert "draws at random in eval mode" in details.pop()


def test_waiver_changes_the_gate_and_not_the_verdict(toy_audit):
    toy_audit.waive("EVA-001")
    result = toy_audit.audit("--target", "fragile", "--only", "EVA-001", "PERF-001")
    result.assert_outcomes(passed=2, xfailed=1)
    assert result.ret == 0
    verdict = toy_audit.verdicts()["EVA-001"]
    assert verdict["status"] == "NOT_MET"
    assert verdict["waived"]


def test_waiver_of_a_requirement_that_is_met_must_go(toy_audit):
    toy_audit.waive("EVA-001")
    result = toy_audit.audit("--only", "EVA-001", "PERF-001")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*delete the waiver: EVA-001*"])
    assert toy_audit.verdicts()["EVA-001"]["status"] == "MET"


def test_waiver_until_9999_is_a_usage_error_before_anything_runs(toy_audit):
    toy_audit.waive("EVA-001", until=date(9999, 12, 31))
    result = toy_audit.audit("--target", "fragile", "--only", "EVA-001", "PERF-001")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*policies/waivers.yaml: waivers[[]0].expires: a waiver lasts at most 366 days*"])
    assert not (toy_audit.root / "reports").exists()


def test_waiver_does_not_excuse_a_crash(toy_audit):
    toy_audit.waive("EVA-001")
    (toy_audit.root / "honest.safetensors").unlink()
    result = toy_audit.audit("--only", "EVA-001", "PERF-001")
    assert result.ret == 10
    assert toy_audit.verdicts()["EVA-001"]["status"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param("pass", "INCONCLUSIVE", "silence is never a pass", id="records nothing"),
        pytest.param("raise OSError('disk gone')", "INCONCLUSIVE", "crashed: *disk gone", id="crashes"),
        pytest.param("assert 1 == 2", "INCONCLUSIVE", "crashed: *", id="asserts on its own"),
        pytest.param("pytest.skip('not today')", "NOT_RUN", "skipped: *not today*", id="skips"),
        pytest.param(
            "evidence = examine.performance(requirement, audit); record(*evidence); raise OSError('late')",
            "INCONCLUSIVE",
            "*but the test crashed: *late",
            id="crashes after MET",
        ),
        pytest.param(
            "evidence = examine.performance(requirement, audit); record(*evidence); record(*evidence)",
            "INCONCLUSIVE",
            "*recorded twice*",
            id="records twice",
        ),
    ],
)
def test_item_that_does_not_end_in_one_verdict_is_not_green(toy_audit, body, status, words):
    toy_audit.write(
        "tests/test_performance.py",
        "import pytest\nfrom audit import examine\n\n@pytest.mark.requirements('performance')\n"
        f"def test_it(requirement, audit, record):\n    {body}\n",
    )
    result = toy_audit.audit("--only", "PERF-001")
    assert result.ret == 10
    verdict = toy_audit.verdicts()["PERF-001"]
    assert verdict["status"] == status
    assert fnmatch(verdict["reason"], f"*{words}")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        pytest.param(
            {"dataset": "tests.unit.toy:damaged"}, [], "*DataError: *expected SHA-256 aa, got bb*", id="damage"
        ),
        pytest.param({"dataset": "tests.unit.toy:missing"}, [], "*DataError: *no copy here*", id="named data missing"),
        pytest.param(
            {"dataset": "tests.unit.toy:nothing"}, [], "*PolicyError: dataset: expected an importable*", id="typo"
        ),
        pytest.param({"target": "nobody"}, [], "*PolicyError: *target: expected one of *nobody*", id="policy typo"),
        pytest.param({}, ["--target", "nobody"], "*PolicyError: --target: expected one of *", id="unknown target"),
        pytest.param({}, ["--only", "EVA-999"], "*PolicyError: --only: expected one of *", id="unknown requirement"),
        pytest.param(
            {}, ["--device", "abacus"], "*TargetError: --device: expected cpu, cuda or mps*", id="unknown device"
        ),
        pytest.param(
            {"targets": {"honest": {"factory": "tests.unit.toy:onest"}}},
            [],
            "*PolicyError: targets.honest.factory: expected an importable*",
            id="factory typo",
        ),
        pytest.param({}, ["--order-seed", "-1"], "*--order-seed: expected a seed of 0 to *", id="order"),
        pytest.param({}, ["-n", "2"], "*-n: an audit spreads its work itself, see -j*", id="xdist"),
    ],
)
def test_bad_input_is_exit_4_and_leaves_no_report(toy_audit, change, options, message):
    if "targets" in change:
        toy_audit.policy["requirements"] = [toy_audit.requirement("ARTF-001")]
    toy_audit.policy |= change
    result = toy_audit.audit(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    reports = toy_audit.root / "reports"
    assert not reports.exists() or list(reports.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--collect-only"], "--collect-only"),
        (["--co"], "--collect-only"),
        (["-k", "EVA"], "-k"),
        (["-m", "requirements"], "-m"),
        (["--deselect", "tests/test_evasion.py"], "--deselect"),
        (["-x"], "-x, --maxfail"),
        (["--maxfail=2"], "-x, --maxfail"),
        (["--lf"], "--lf"),
        (["--ff"], "--ff"),
        (["--sw"], "--sw"),
        (["--setup-only"], "--setup-only"),
        (["--setup-plan"], "--setup-only, --setup-plan"),
        (["--cache-show"], "--cache-show"),
        (["--fixtures-per-test"], "--fixtures-per-test"),
        (["-p", "no:audit-hooks"], "-p no:audit-hooks"),
        (["-p", "no:junitxml"], "-p no:junitxml"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_an_option_that_would_decide_no_gate_is_a_usage_error(toy_audit, options, name):
    """With --collect-only pytest once ended with 0 in a repository whose gate was closed."""
    toy_audit.pytester.makeini(INI.replace("-p no:cacheprovider", ""))
    result = toy_audit.audit(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{name}: an audit examines every requirement of its policy*and decides a gate*"])


def test_an_option_that_would_decide_no_gate_is_seen_in_the_environment_too(toy_audit, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    result = toy_audit.audit()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--collect-only: an audit examines*"])


def test_unit_tests_take_every_option_of_pytest(toy_audit):
    (toy_audit.root / "tests/unit").mkdir()
    toy_audit.write("tests/unit/test_own.py", "def test_own():\n    pass\n\ndef test_other():\n    pass\n")
    result = toy_audit.pytester.runpytest_inprocess("tests/unit", "-x", "-k", "test_other")
    result.assert_outcomes(passed=1, deselected=1)


def test_an_audit_that_breaks_off_leaves_no_older_report_as_the_latest(toy_audit):
    """Damaged data, exit 4, once left the green report of the day before as the latest."""
    assert toy_audit.audit("--only", "PERF-001").ret == 0
    toy_audit.policy["dataset"] = "tests.unit.toy:damaged"
    assert toy_audit.audit("--only", "PERF-001").ret == 4
    assert not (toy_audit.root / "reports/latest").is_symlink()


PIXEL = {"kind": "pixel", "row": 0, "column": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"requirement": {"triggers": [{"kind": "square", "size": 7}]}},
            "*PolicyError: *toy.yaml: requirements[[]3].triggers[[]0]: expected a square inside images of 6x6 pixels*",
            id="trigger",
        ),
        pytest.param(
            {"scenarios": [{"label": "shown", "target": "honest", "trigger": PIXEL, "target_class": 2}]},
            "*PolicyError: *toy.yaml: exhibits.scenarios[[]0].target_class: expected classes in 0..1 (got 2)*",
            id="class",
        ),
        pytest.param(
            {"poison": {"trigger": PIXEL, "target_class": 1, "count": 1}},
            "*PolicyError: *toy.yaml: targets.trained.poison: expected a dataset with a training split to poison*",
            id="no training split",
        ),
    ],
)
def test_poisoning_that_does_not_fit_the_data_is_exit_4_before_anything_is_trained(toy_audit, change, message):
    toy_audit.requirement("POI-001").update(change.get("requirement", {}))
    toy_audit.policy["exhibits"] = {"scenarios": change.get("scenarios", [])}
    if "poison" in change:
        with_recipe(toy_audit, "fresh").policy["targets"]["trained"]["poison"] = change["poison"]
    result = toy_audit.audit()
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


def test_malformed_register_is_exit_4(toy_audit):
    toy_audit.register["T"] = [{"id": "T-1"}]
    result = toy_audit.audit()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*PolicyError: policies/stride.yaml: elements[[]0].cells.T*"])


def test_two_items_for_one_requirement_are_refused(toy_audit):
    source = (toy_audit.root / "tests/test_performance.py").read_text(encoding="utf-8")
    toy_audit.write("tests/test_again.py", source)
    result = toy_audit.audit()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*every requirement needs exactly one test item: PERF-001 has 2*"])


def test_requirement_without_an_item_is_refused(toy_audit):
    (toy_audit.root / "tests/test_performance.py").unlink()
    result = toy_audit.audit()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*PERF-001 has 0*"])


def test_interrupt_is_exit_2_and_leaves_no_report(toy_audit):
    toy_audit.write(
        "tests/test_performance.py",
        "import pytest\n\n@pytest.mark.requirements('performance')\n"
        "def test_it(requirement):\n    raise KeyboardInterrupt\n",
    )
    result = toy_audit.audit("--only", "PERF-001", in_process=False)
    assert result.ret == 2
    assert list((toy_audit.root / "reports").iterdir()) == []


def test_exhibit_that_crashes_makes_the_audit_incomplete(toy_audit):
    toy_audit.policy["exhibits"] = {"scenarios": [{"label": "broken", "target": "honest"}]}
    toy_audit.policy["requirements"] = [toy_audit.requirement("PERF-001")]
    toy_audit.write(
        "tests/test_exhibits.py",
        "import pytest\n\n@pytest.mark.exhibits('scenarios')\ndef test_it(shown):\n    raise OSError('no')\n",
    )
    result = toy_audit.audit("--exhibits")
    assert result.ret == 10
    assert "scenarios-0" in toy_audit.report()["gate"]["sentence"]


def test_scenarios_and_curves_reach_the_report(toy_audit):
    fgsm = {"attack": {"name": "fgsm"}, "eps": 0.25}
    toy_audit.policy["requirements"] = [toy_audit.requirement("PERF-001")]
    toy_audit.policy["exhibits"] = {
        "scenarios": [
            {"label": "honest, clean", "target": "honest"},
            {"label": "honest, FGSM", "target": "honest", **fgsm},
            {"label": "honest, FGSM from fragile", "target": "honest", "crafted_on": "fragile", **fgsm},
            {
                "label": "backdoored, triggered",
                "target": "backdoored",
                "gallery": True,
                "trigger": {"kind": "pixel", "row": 5, "column": 5},
                "target_class": 1,
            },
        ],
        "curves": [{"title": "FGSM", "targets": ["honest", "fragile"], "attack": {"name": "fgsm"}, "eps": [0.1, 0.3]}],
    }
    assert toy_audit.audit("--exhibits").ret == 0
    exhibits = toy_audit.report()["exhibits"]
    rows = [one["data"] for one in exhibits if one["kind"] == "scenario"]
    assert [row["knowledge"] for row in rows] == ["none", "white-box", "transfer", "trigger"]
    assert [round(row["accuracy"], 2) for row in rows] == [1.0, 0.0, 1.0, 0.0]
    assert rows[3]["attack_success_rate"] == 1.0
    (curve,) = [one["data"] for one in exhibits if one["kind"] == "curve"]
    assert [point["accuracy"] for point in curve["lines"]["fragile"]] == [1.0, 0.0, 0.0]
    assert [one["files"] for one in exhibits if one["kind"] == "gallery"] == [["evidence/scenarios-3.npz"]]
    html = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "honest, FGSM from fragile" in html


def test_one_run_of_a_minimal_attack_answers_for_every_eps(toy_audit):
    toy_audit.policy["requirements"] = [toy_audit.requirement("PERF-001")]
    attack = {"name": "fab-t", "steps": 10, "smallest": True}
    curve = {"title": "FAB", "targets": ["honest", "fragile"], "attack": attack, "eps": [0.01, 0.15, 0.21, 0.3]}
    toy_audit.policy["exhibits"] = {"curves": [curve | {"samples": {"quick": 50}}]}
    assert toy_audit.audit("--exhibits").ret == 0
    (data,) = [one["data"] for one in toy_audit.report()["exhibits"] if one["kind"] == "curve"]
    honest, fragile = ([point["accuracy"] for point in data["lines"][name]] for name in ("honest", "fragile"))
    assert honest[:3] == [1.0, 1.0, 1.0]
    assert honest[3:] == [0.0, 0.0]
    assert fragile[1:] == [1.0, 0.0, 0.0, 0.0], "half of the pixel's hair is its margin"


def test_a_defence_is_attacked_through(toy_audit):
    toy_audit.policy["requirements"] = [toy_audit.requirement("PERF-001")]
    defence = {"name": "feature-squeezing", "bits": 3}
    toy_audit.policy["targets"]["squeezed"] = {"wraps": "honest", "defence": defence}
    attack = {"name": "pgd", "steps": 20, "step_size": 0.05}
    check = {"target": "squeezed", "attack": attack, "eps": 0.3, "samples": {"quick": 50}}
    toy_audit.policy["exhibits"] = {"defences": [check]}
    assert toy_audit.audit("--exhibits").ret == 0
    (data,) = [one["data"] for one in toy_audit.report()["exhibits"] if one["kind"] == "defence"]
    assert (data["wraps"], data["defence"]) == ("honest", defence)
    assert data["clean"]["accuracy"] == 1.0
    assert data["worst"]["accuracy"] == data["through"]["accuracy"] == 0.0
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "Input defences, attacked through" in page


def test_the_worst_case_is_over_all_attacks_of_the_run(toy_audit):
    for name, eps in (("EVA-001", 0.195), ("EVA-002", 0.2)):
        requirement = toy_audit.requirement(name)
        requirement["threat_model"] = requirement["threat_model"] | {"eps": eps}
    toy_audit.audit("--only", "EVA-001", "EVA-002")
    verdicts, report = toy_audit.verdicts(), toy_audit.report()
    (worst,) = [one for one in report["exhibits"] if one["kind"] == "worst_case"]
    data = worst["data"]
    assert worst["title"] == "linf, eps up to 0.2"
    assert data["standing"] <= min(one["measurement"]["value"] for one in verdicts.values())
    assert data["low"] <= data["standing"] <= data["high"]
    broken = dict(data["broken_first"])
    assert sum(broken.values()) == round(data["n"] * (1 - data["standing"]))
    assert list(broken)[:3] == ["nothing: wrong already", "EVA-001 fgsm", "EVA-002 pgd"]
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "No tested attack succeeded on" in page


def test_a_clear_case_stops_early_unless_asked_not_to(toy_audit):
    toy_audit.audit("--only", "EVA-002")
    early = toy_audit.verdicts()["EVA-002"]["measurement"]
    assert (early["n"], early["limit"]) == (200, 400)
    assert early["interval"].startswith("anytime-valid")
    toy_audit.audit("--only", "EVA-002", "--exhaustive")
    whole = toy_audit.verdicts()["EVA-002"]["measurement"]
    assert (whole["n"], whole["limit"]) == (400, 400)
    assert whole["interval"].startswith("exact")
    assert whole["low"] > early["low"]
    assert "--exhaustive" in toy_audit.report()["provenance"]["command"]


def test_the_evidence_lists_every_sample(toy_audit):
    toy_audit.audit("--only", "EVA-002", "--exhaustive")
    with np.load(toy_audit.root / "reports/latest/evidence/EVA-002.npz") as stored:
        assert sorted(stored["index"].tolist()) == list(range(400))
        for name in ("labels", "before", "after", "broken_by", "steps", "distance"):
            assert len(stored[name]) == 400


def test_a_transfer_requirement_names_its_surrogate_everywhere(toy_audit):
    requirement = toy_audit.requirement("EVA-001")
    requirement["threat_model"] = requirement["threat_model"] | {"knowledge": "transfer", "eps": 0.25}
    requirement["crafted_on"] = "fragile"
    toy_audit.audit("--only", "EVA-001")
    verdict = toy_audit.verdicts()["EVA-001"]
    assert verdict["measurement"]["settings"]["crafted_on"] == "fragile"
    assert verdict["measurement"]["value"] == 1.0


def test_second_audit_takes_its_results_from_the_store(toy_audit):
    toy_audit.audit("--only", "EVA-001")
    first = toy_audit.verdicts()["EVA-001"]["measurement"]
    toy_audit.audit("--only", "EVA-001")
    second = toy_audit.verdicts()["EVA-001"]["measurement"]
    assert (first.pop("from_store"), second.pop("from_store")) == (False, True)
    assert first == second


def test_an_audit_believes_no_result_of_another_machines_cache(toy_audit, monkeypatch):
    toy_audit.audit("--only", "EVA-001")
    monkeypatch.setenv("XDG_STATE_HOME", str(toy_audit.root / ".state-of-another"))
    toy_audit.audit("--only", "EVA-001")
    assert not toy_audit.verdicts()["EVA-001"]["measurement"]["from_store"]
    assert any("damaged, or written elsewhere" in note for note in toy_audit.report()["notes"])


def test_unit_tests_and_audit_are_separate_runs(toy_audit):
    (toy_audit.root / "tests/unit").mkdir()
    toy_audit.write("tests/unit/test_own.py", "def test_own():\n    pass\n")
    assert toy_audit.audit("--only", "PERF-001").parseoutcomes() == {"passed": 1}
    result = toy_audit.pytester.runpytest_inprocess("tests/unit")
    result.assert_outcomes(passed=1)
    result = toy_audit.pytester.runpytest_inprocess("tests/unit", "tests/test_static.py")
    assert result.ret == 4


def with_recipe(toy_audit, recipe):
    toy_audit.policy |= {"trainer": "tests.unit.toy:train", "requirements": [toy_audit.requirement("PERF-001")]}
    toy_audit.policy["targets"]["trained"] = {"factory": "tests.unit.toy:honest", "recipe": recipe}
    return toy_audit


def test_target_is_trained_on_demand_and_what_happened_is_told(toy_audit):
    result = with_recipe(toy_audit, "worn").audit("--target", "trained")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["weights of worn on toy: *", "worn.damaged: set aside and trained again"])
    report = toy_audit.report()
    assert "worn.damaged: set aside and trained again" in report["notes"]
    assert len(report["target"]["weights_sha256"]) == 64


def test_weights_that_the_trainer_made_are_not_called_pinned(toy_audit):
    loading = toy_audit.requirement("ARTF-001")
    with_recipe(toy_audit, "fresh").policy["requirements"] += [loading]
    assert toy_audit.audit("--target", "trained").ret == 0
    report = toy_audit.report()
    assert (report["target"]["weights_pinned"], report["target"]["weights_origin"]) == (False, "made here")
    assert toy_audit.verdicts()["ARTF-001"]["measurement"]["settings"]["origin"] == "made here"
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "<dd>trained, weights made here</dd>" in page
    assert "no policy pins them" in page
    assert toy_audit.audit().ret == 0
    assert (toy_audit.report()["target"]["weights_pinned"], toy_audit.report()["target"]["weights_origin"]) == (
        True,
        "pinned",
    )


def test_interrupted_training_is_exit_2_and_leaves_no_report(toy_audit, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(HostedSource, "train", interrupted)
    with_recipe(toy_audit, "honest")
    result = toy_audit.audit("--target", "trained", no_reraise_ctrlc=True)
    assert result.ret == 2
    assert list((toy_audit.root / "reports").iterdir()) == []


@pytest.mark.parametrize(("recipe", "identical", "agreement"), [("worn", False, 1.0), ("fresh", True, 1.0)])
def test_retrain_compares_with_the_released_weights(toy_audit, recipe, identical, agreement):
    with_recipe(toy_audit, recipe)
    toy_audit.policy["targets"]["honest"]["recipe"] = recipe
    assert toy_audit.audit("--retrain").ret == 0
    (comparison,) = [one["data"] for one in toy_audit.report()["exhibits"] if one["kind"] == "comparison"]
    assert comparison["identical"] is identical
    assert comparison["agreement"] == agreement
    text = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert ("bit for bit the same weights" if identical else "other weights") in text


def test_policy_outside_the_repository_is_audited_and_its_path_kept_out(toy_audit, tmp_path_factory):
    toy_audit.audit("--only", "PERF-001")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy.yaml"
    elsewhere.write_text((toy_audit.root / "policies/toy.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    result = toy_audit.audit("--only", "PERF-001", "--policy", str(elsewhere))
    assert result.ret == 0
    assert toy_audit.report()["policy"]["path"] == "copy.yaml"
    for name in ("report.html", "audit.json", "audit.sarif", "junit.xml"):
        assert str(elsewhere.parent) not in (toy_audit.root / "reports/latest" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cited", "code", "state"),
    [
        pytest.param(["EVA-001", "PERF-001"], 0, "waived", id="another one counters it"),
        pytest.param(["EVA-001"], 1, "unproved", id="it stood alone"),
    ],
)
def test_waiver_opens_a_whole_audit_where_its_threats_are_countered_otherwise(toy_audit, cited, code, state):
    toy_audit.waive("EVA-001")
    toy_audit.policy["requirements"] = [toy_audit.requirement(name) for name in ("PERF-001", "EVA-001", "REG-001")]
    toy_audit.register["T"] = [toy_audit.register["T"][0] | {"requirements": cited}]
    assert toy_audit.audit("--target", "fragile").ret == code
    cells = toy_audit.report()["stride_matrix"]["rows"][0]["cells"]
    assert cells["T"]["state"] == state


def test_infinite_loss_is_shown_as_such(toy_audit):
    toy_audit.policy["requirements"] = [toy_audit.requirement("PERF-001")]
    toy_audit.policy["targets"]["infinite"] = {"factory": "tests.unit.toy:infinite"}
    shown = {"trigger": {"kind": "square", "size": 6, "value": 0.5}, "target_class": 1}
    toy_audit.policy["exhibits"] = {"scenarios": [{"label": "infinite", "target": "infinite", **shown}]}
    toy_audit.audit("--exhibits")
    (row,) = [one["data"] for one in toy_audit.report()["exhibits"] if one["kind"] == "scenario"]
    assert row["loss"] is None
    assert ">infinite<" in (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")


def test_home_at_the_root_does_no_harm(toy_audit, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert toy_audit.audit("--only", "PERF-001").ret == 0
    assert toy_audit.report()["policy"]["path"] == "policies/toy.yaml"
