"""The command line: lists, shows, prints the schema, and hands ``run`` on with its options unchanged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from audit import choose as choosing
from audit import cli
from audit.choose import choose
from audit.errors import DataError, PolicyError
from audit.isolation.host import InThisProcess
from audit.policy import load_policy

ROOT = Path(__file__).parents[3]


def test_list_prints_one_line_a_requirement(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["list", "--policy", "policies/mnist.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    policy = load_policy(ROOT / "policies/mnist.yaml", ROOT).policy
    assert [line.split()[0] for line in lines] == [one.id for one in policy.requirements]
    assert re.fullmatch(r"EVA-002\s+high\s+robust_accuracy\s+>= 0.8\s+Robust accuracy under 40-step PGD.*", lines[3])


def test_show_prints_one_requirement_whole(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["show", "POI-001", "--policy", "policies/mnist.yaml"]) == 0
    out = capsys.readouterr().out
    for part in ("id: POI-001", "why:", "triggers:", "control:", "at_most: 0.02"):
        assert part in out


def test_pin_writes_fingerprints_and_prints_what_the_shipped_policy_pins(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert cli.main(["pin", "--policy", "policies/digits.yaml", str(tmp_path / "digits.safetensors")]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    policy = load_policy(ROOT / "policies/digits.yaml", ROOT).policy
    (shipped,) = (one for one in policy.requirements if one.id == "POI-005")
    assert {name: printed[name] for name in ("training", "audit", "raw_files")} == {
        "training": shipped.training,
        "audit": shipped.audit,
        "raw_files": shipped.raw_files,
    }
    assert (tmp_path / "digits.safetensors").read_bytes() == (ROOT / shipped.fingerprints).read_bytes()


def test_pin_needs_a_training_split(monkeypatch, capsys, tmp_path):
    policy = yaml.safe_load(POLICY)
    policy["dataset"] = "tests.unit.toy:data"
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    monkeypatch.chdir(ROOT)
    assert cli.main(["pin", "--policy", str(tmp_path / "toy.yaml"), str(tmp_path / "out.safetensors")]) == 4
    assert "expected a training split (got none)" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_schema_is_json(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Policy"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "EVA-999", "--policy", "policies/mnist.yaml"], "show: expected one of PERF-001"),
        (["list", "--policy", "policies/none.yaml"], "PolicyError: .*none.yaml: expected a YAML file"),
    ],
    ids=["unknown id", "missing policy"],
)
def test_bad_input_is_exit_4_and_one_line(monkeypatch, capsys, words, message):
    monkeypatch.chdir(ROOT)
    assert cli.main(words) == 4
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_run_hands_its_options_to_the_supervised_pytest(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "supervise", lambda words: seen.append(words) or 10)
    assert cli.main(["run", "--only", "EVA-001", "--offline"]) == 10
    assert seen == [["--only", "EVA-001", "--offline"]]


def test_every_option_of_the_readme_exists_and_every_option_is_in_the_readme(pytestconfig):
    """The README's table of options and pytest's own parser say the same."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(--[a-z-]+)", readme, flags=re.MULTILINE))
    (group,) = (one for one in pytestconfig._parser._groups if one.name == "audit")
    assert told == {name for option in group.options for name in option.names() if name.startswith("--")}


POLICY = (ROOT / "policies/digits.yaml").read_text(encoding="utf-8")


@pytest.fixture
def two_policies(tmp_path, monkeypatch):
    """Make a repository with a first and a second policy; give a function that sets their datasets."""
    monkeypatch.setattr(choosing, "AUTO", ("policies/first.yaml", "policies/second.yaml"))
    for name in ("policies", "model_under_test"):
        (tmp_path / name).symlink_to(ROOT / name) if name != "policies" else (tmp_path / name).mkdir()
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("controls", "pins", "semgrep", "stride.yaml"):
        (tmp_path / "policies" / name).symlink_to(ROOT / "policies" / name)

    def write(first, second):
        for name, factory in (("first", first), ("second", second)):
            text = POLICY.replace("model_under_test.data:digits", f"tests.unit.toy:{factory}")
            (tmp_path / f"policies/{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_auto_takes_the_first_policy_whose_data_are_there(two_policies):
    choice = choose("auto", two_policies("data", "data"), InThisProcess(), offline=True)
    assert choice.reason == "policies/first.yaml, chosen by auto (toy was found)"


def test_auto_moves_on_where_data_are_missing_and_says_why(two_policies):
    choice = choose("auto", two_policies("missing", "data"), InThisProcess(), offline=True)
    assert choice.file.path.name == "second.yaml"
    assert "policies/first.yaml passed over: toy data: no copy here" in choice.reason


def test_auto_never_moves_on_from_damage(two_policies):
    with pytest.raises(DataError, match=r"ValueError: train\.bin: expected SHA-256 aa"):
        choose("auto", two_policies("damaged", "data"), InThisProcess(), offline=True)


def test_auto_without_any_data_says_so(two_policies):
    with pytest.raises(DataError, match="no policy has its data here"):
        choose("auto", two_policies("missing", "missing"), InThisProcess(), offline=True)


def test_naming_a_policy_is_strict(two_policies):
    root = two_policies("missing", "data")
    with pytest.raises(DataError, match=r"policies/first\.yaml: toy data: no copy here"):
        choose("policies/first.yaml", root, InThisProcess(), offline=True)
    with pytest.raises(PolicyError, match="expected a YAML file"):
        choose("policies/third.yaml", root, InThisProcess(), offline=True)
