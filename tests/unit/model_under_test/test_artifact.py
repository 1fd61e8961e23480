"""Our own weight files: only what our networks need is parsed, and a signed folder stays as it was signed."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from safetensors.torch import save

from audit.artifacts import signature
from audit.artifacts.corpus import build
from audit.process import run
from model_under_test import artifact
from model_under_test.errors import IntegrityError
from model_under_test.network import build_untrained

ROOT = Path(__file__).parents[3]
GOOD = {"conv.weight": torch.ones(2, 3), "norm.num_batches_tracked": torch.tensor(7)}


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path):
    state = build_untrained().state_dict()
    manifest = artifact.save(tmp_path / "w.safetensors", state, {})
    found = artifact.load(tmp_path / "w.safetensors", manifest["sha256"])
    assert {name: tensor.tolist() for name, tensor in found.items()} == {n: t.tolist() for n, t in state.items()}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        pytest.param({"../w": torch.ones(1)}, r"expected names of parameters, got '\.\./w'", id="a path"),
        pytest.param({"w": torch.ones(1).double()}, "expected w in torch.float32", id="another dtype"),
        pytest.param({"w": torch.tensor(float("nan"))}, "expected finite numbers in w", id="NaN"),
        pytest.param({"w": torch.tensor(float("-inf"))}, "expected finite numbers in w", id="infinity"),
        pytest.param({f"w{n}": torch.ones(1) for n in range(1001)}, "at most 1000 tensors|a header of", id="too many"),
    ],
)
def test_what_no_network_of_ours_holds_is_refused(tensors, words):
    with pytest.raises(IntegrityError, match=words):
        artifact.parse(save(tensors), "w")


def test_a_header_that_says_a_thing_twice_is_refused():
    entry = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    with pytest.raises(IntegrityError, match="a key occurs twice"):
        artifact.parse(len(header).to_bytes(8, "little") + header + struct.pack("<f", 1.0), "w")


@pytest.mark.parametrize("specimen", build(Path("marker")), ids=lambda one: one.file)
def test_the_whole_corpus_is_refused(tmp_path, monkeypatch, specimen):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / specimen.file
    path.write_bytes(specimen.content)
    with pytest.raises(IntegrityError):
        artifact.load(path, artifact.sha256(specimen.content))
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def release(tmp_path):
    """Give a folder of weights, and the two halves of a key pair."""
    folder = tmp_path / "release"
    manifest = artifact.save(folder / "w.safetensors", GOOD, {})
    pair = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return folder, manifest["sha256"], private, public


def test_a_signed_folder_verifies_here_and_in_the_audit(release):
    folder, digest, private, public = release
    assert artifact.sign(folder, private) == folder / artifact.SIGNATURE
    files = artifact.verify(folder, public)
    assert files["w.safetensors"] == digest
    assert files == signature.verify(folder, folder / signature.NAME, public)
    assert torch.equal(artifact.load(folder / "w.safetensors", digest, public)["conv.weight"], GOOD["conv.weight"])


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda folder: (folder / "w.json").write_bytes(b"{}"), id="changed"),
        pytest.param(lambda folder: (folder / "w.json").unlink(), id="missing"),
        pytest.param(lambda folder: (folder / ".gitignore").touch(), id="added"),
    ],
)
def test_a_folder_that_was_tampered_with_does_not_verify(release, tamper):
    folder, digest, private, public = release
    artifact.sign(folder, private)
    tamper(folder)
    with pytest.raises(IntegrityError, match="not what was signed"):
        artifact.verify(folder, public)
    with pytest.raises(IntegrityError, match="not what was signed"):
        artifact.load(folder / "w.safetensors", digest, public)


def test_a_pin_that_is_not_the_signed_digest_is_refused(release):
    folder, _, private, public = release
    artifact.sign(folder, private)
    with pytest.raises(IntegrityError, match="expected the signed SHA-256"):
        artifact.load(folder / "w.safetensors", "0" * 64, public)


def test_the_commands_sign_and_verify(release, capsys):
    folder, _, private, public = release
    module = [sys.executable, "-m", "model_under_test.artifact"]
    done = run([*module, "sign", str(folder), "--private-key", str(private)], cwd=ROOT, seconds=60)
    assert (done.code, done.stdout) == (0, f"signed: {folder}/model.sig\n")
    assert artifact.main(["verify", str(folder), "--public-key", str(public)]) == 0
    assert capsys.readouterr().out == f"verified: {folder}\n"


def test_bad_keys_and_folders_are_told_in_a_sentence(release, capsys, tmp_path):
    folder, _, _, public = release
    assert artifact.main(["verify", str(folder), "--public-key", str(public)]) == 1
    assert capsys.readouterr().err == f"{folder}/model.sig: expected a file, found none\n"
    assert artifact.main(["sign", str(tmp_path / "none"), "--private-key", str(public)]) == 1
    assert "expected a folder of weights, found none" in capsys.readouterr().err
    other = tmp_path / "ed25519.pem"
    pair = ed25519.Ed25519PrivateKey.generate()
    other.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert artifact.main(["sign", str(folder), "--private-key", str(other)]) == 1
    assert "could not be signed with" in capsys.readouterr().err
    assert not (folder / artifact.SIGNATURE).exists()
