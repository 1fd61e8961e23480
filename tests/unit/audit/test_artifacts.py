"""Safe loading: the real loader refuses, a careless one is caught, and the payloads really bite."""

from __future__ import annotations

import hashlib
import zipfile

import pytest
import torch
from safetensors.torch import save

from audit import artifacts
from audit.errors import IntegrityError
from audit.records import Status
from audit.target import load_weights


def test_real_loader_refuses_every_planted_file():
    assert artifacts.loader_findings(load_weights) == ([], 4)


def test_careless_loaders_are_caught():
    def accepts(path, sha256):
        return path.read_bytes()

    def runs(path, sha256):
        (path.parent / "marker").touch()
        raise IntegrityError("too late")

    assert {finding.rule for finding in artifacts.loader_findings(accepts)[0]} == {"accepted"}
    assert {finding.rule for finding in artifacts.loader_findings(runs)[0]} == {"executed"}


def test_payloads_fire_under_plain_pickle_in_a_child_process():
    control = artifacts.payload_control()
    assert control.status is Status.NOT_MET
    assert control.detail.startswith("4 of 4")


def test_good_weights_have_no_finding(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"w": torch.zeros(3)}))
    assert artifacts.weight_findings(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.name, load_weights) == []


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
    (finding,) = artifacts.weight_findings(path, pinned or hashlib.sha256(content).hexdigest(), path.name, load_weights)
    assert words in finding.message


def test_zip_payload_is_shaped_like_a_torch_checkpoint(tmp_path):
    planted = artifacts.planted_files(tmp_path, tmp_path / "marker")
    with zipfile.ZipFile(planted["torch zip archive named .pt"]) as archive:
        assert archive.namelist() == ["archive/data.pkl", "archive/version"]
