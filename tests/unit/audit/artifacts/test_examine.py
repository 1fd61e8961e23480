"""The artifact checks: the real loader refuses the whole corpus, a careless one is caught, and the payloads bite."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from audit.artifacts import examine
from audit.artifacts.corpus import build
from audit.artifacts.weights import load_weights
from audit.errors import IntegrityError
from audit.records import Status


def test_real_loader_refuses_every_file_of_the_corpus():
    found, said = examine.loader_findings(load_weights)
    assert found == []
    assert len(said) == len(build(Path("marker")))
    assert all(row["answer"] for row in said)


def test_careless_loaders_are_caught():
    def accepts(path, sha256):
        return path.read_bytes()

    def runs(path, sha256):
        (path.parent / "marker").touch()
        raise IntegrityError("too late")

    def breaks(path, sha256):
        raise RuntimeError("oops")

    for careless, rules in ((accepts, {"accepted"}), (runs, {"executed"}), (breaks, {"crashed"})):
        found, said = examine.loader_findings(careless)
        assert {finding.rule for finding in found} == rules
        assert len(found) == len(said)


@pytest.mark.usefixtures("_children_go_unmeasured")
def test_payloads_fire_under_plain_pickle_in_a_child_process():
    control = examine.payload_control()
    malicious = sum(one.pickled is not None for one in build(Path("marker")))
    assert control.status is Status.NOT_MET
    assert control.detail == f"{malicious} of {malicious} payloads ran in a child process"


@pytest.mark.usefixtures("_children_go_unmeasured")
def test_payloads_that_do_not_fire_discredit_the_check(monkeypatch):
    monkeypatch.setattr(examine, "_UNPICKLE", "pass")
    control = examine.payload_control()
    assert control.status is Status.MET
    assert control.detail.startswith("0 of")


def test_good_weights_have_no_finding(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"w": torch.zeros(3)}))
    pinned = hashlib.sha256(path.read_bytes()).hexdigest()
    assert examine.weight_findings(path, pinned, path.name, load_weights) == []


def test_weights_that_nobody_pinned_are_a_finding(tmp_path):
    (finding,) = examine.weight_findings(tmp_path / "w", None, "w", load_weights)
    assert finding.rule == "unpinned"


@pytest.mark.parametrize(
    ("content", "pinned", "words"),
    [
        pytest.param(None, "0" * 64, "No such file", id="missing"),
        pytest.param(b"anything", "0" * 64, "expected SHA-256 0000", id="another digest"),
        pytest.param(b"garbage", None, "expected safetensors", id="not safetensors"),
        pytest.param(b"", None, "expected safetensors", id="empty"),
    ],
)
def test_bad_weights_are_a_finding(tmp_path, content, pinned, words):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    pinned = pinned or hashlib.sha256(content).hexdigest()
    (finding,) = examine.weight_findings(path, pinned, path.name, load_weights)
    assert words in finding.message
