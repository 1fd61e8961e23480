"""The served model in a whole audit: here the sound server of the audit's own stands for the model's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from audit.serving import weak_server
from audit.serving.client import pixels_body
from tests.unit import toy
from tests.unit.audit.conftest import requirement

PROGRAM = ["-I", str(Path(weak_server.__file__))]
SERVE = ["serve", "--weights", "{weights_folder}", "--sha256", "{sha256}", "--log", "{log}", "--settings", "{settings}"]


def server(answers, *weak, **changed):
    """Return the part of a policy that says how the toy is served."""
    return {
        "command": [*PROGRAM, *weak, *SERVE, "--answers", str(answers)],
        "without_tokens": ["--open"],
        "with_tokens": ["--tokens", "{tokens}"],
        "make_token": [*PROGRAM, "token", "--tokens", "{tokens}", "--name", "{name}", "--scope", "{scope}"],
        "expiring": ["--expires", "{expires}"],
        "verify_log": [*PROGRAM, "verify-log", "{log}"],
        **changed,
    }


@pytest.fixture
def served(toy_audit):
    """Give a toy audit with two requirements of the server, and the answers of the honest network."""
    images = toy.data(offline=True).audit.images
    with torch.no_grad():
        probabilities = toy.honest().eval()(images).softmax(1)
    answers = {
        hashlib.sha256(pixels_body(image)).hexdigest(): (int(row.argmax()), row.tolist())
        for image, row in zip(images.flatten(1).tolist(), probabilities, strict=True)
    }
    (toy_audit.root / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    count = {"metric": "findings", "at_most": 0}
    for name, check in (("SERV-008", "agreement"), ("SERV-005", "exposure")):
        stated = requirement(name, "serving", count, check=check, control={"server": "weak"})
        toy_audit.policy["requirements"].insert(0, stated)
    toy_audit.policy["server"] = server(toy_audit.root / "answers.json")
    return toy_audit


def audited(toy_audit, *names):
    result = toy_audit.audit("--only", *names)
    return result.ret, toy_audit.verdicts()


def test_a_sound_server_of_the_audited_model_is_met_and_shown(served):
    code, verdicts = audited(served, "SERV-005", "SERV-008")
    assert code == 0
    assert {one["status"] for one in verdicts.values()} == {"MET"}
    assert verdicts["SERV-008"]["measurement"]["settings"]["same_class"] == 400
    assert verdicts["SERV-008"]["evidence"]["control"]["status"] == "NOT_MET"
    page = (served.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "same class: 400" in page
    assert "A server that serves its own source and sets no headers" in page


def test_a_weak_server_closes_the_gate(served):
    served.policy["server"] = server(served.root / "answers.json", "--weak", "mistaken")
    code, verdicts = audited(served, "SERV-008", "SERV-005")
    assert (code, verdicts["SERV-008"]["status"], verdicts["SERV-005"]["status"]) == (1, "NOT_MET", "MET")
    assert "another class: served" in verdicts["SERV-008"]["reason"]


def test_a_server_that_does_not_start_is_a_doubt_and_the_reason_is_told(served):
    served.policy["server"]["command"] = ["-c", "import sys; sys.exit('no such weights')"]
    code, verdicts = audited(served, "SERV-008")
    assert (code, verdicts["SERV-008"]["status"]) == (10, "INCONCLUSIVE")
    assert "the server did not start" in verdicts["SERV-008"]["reason"]
    assert "no such weights" in verdicts["SERV-008"]["reason"]
    assert verdicts["SERV-008"]["evidence"]["control"]["status"] == "NOT_MET"


def test_a_server_without_a_log_is_a_doubt_without_paths_of_this_machine(served):
    count = {"metric": "findings", "at_most": 0}
    stated = requirement("SERV-004", "serving", count, check="tampering", control={"server": "weak"})
    served.policy["requirements"].insert(0, stated)
    served.policy["server"]["command"] = [
        *(word if word != "{log}" else "{log}.elsewhere" for word in served.policy["server"]["command"]),
    ]
    code, verdicts = audited(served, "SERV-004")
    assert (code, verdicts["SERV-004"]["status"]) == (10, "INCONCLUSIVE")
    assert verdicts["SERV-004"]["reason"] == "the check broke off: FileNotFoundError: No such file or directory"


def test_without_a_command_nothing_was_examined(served):
    del served.policy["server"]
    code, verdicts = audited(served, "SERV-008")
    assert (code, verdicts["SERV-008"]["status"]) == (10, "NOT_RUN")
    assert "names no command that serves the model" in verdicts["SERV-008"]["reason"]


def test_a_target_without_a_weight_file_cannot_be_served(served):
    served.policy["target"] = "fragile"
    code, verdicts = audited(served, "SERV-008")
    assert (code, verdicts["SERV-008"]["status"]) == (10, "NOT_RUN")
    assert "target fragile has no weight file" in verdicts["SERV-008"]["reason"]


def test_weights_that_are_not_the_pinned_ones_are_a_doubt(served):
    served.policy["targets"]["honest"]["sha256"] = "0" * 64
    code, verdicts = audited(served, "SERV-008")
    assert (code, verdicts["SERV-008"]["status"]) == (10, "INCONCLUSIVE")
    assert "the target was refused" in verdicts["SERV-008"]["reason"]


def test_an_unknown_place_is_a_policy_error(served):
    served.policy["server"]["verify_log"] = ["verify", "{logs}"]
    result = served.audit("--only", "SERV-008")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*server.verify_log: expected places among *"])
