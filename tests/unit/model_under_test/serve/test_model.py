"""The served network: only what verifies is loaded, and what happens to the file later changes readiness alone."""

from __future__ import annotations

import json
import os

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from model_under_test import artifact, network
from model_under_test.errors import IntegrityError
from model_under_test.serve import model
from model_under_test.serve.model import ServedModel

PIXELS = torch.rand(784, generator=torch.Generator().manual_seed(1))


def test_answers_are_those_of_the_network_alone_in_its_batch(weights):
    served = ServedModel(weights)
    direct = network.build_untrained().eval()
    with torch.no_grad():
        logits = direct(PIXELS.reshape(1, 1, 28, 28))
    found = served.predict(PIXELS)
    assert found.probabilities == tuple(torch.softmax(logits, 1)[0].tolist())
    assert found.digit == int(logits.argmax())


def test_the_digest_is_that_of_the_file(weights):
    assert ServedModel(weights).digest == "sha256:" + artifact.sha256((weights / "w.safetensors").read_bytes())


def swap(weights):
    path = weights / "w.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(weights, **changes):
    path = weights / "w.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def retrain(weights):
    state = network.build_untrained().state_dict()
    artifact.save(weights / "w.safetensors", {name: tensor + 1 for name, tensor in state.items()}, {})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(swap, "expected SHA-256", id="a bit turned over"),
        pytest.param(lambda w: (w / "w.safetensors").write_bytes(b""), "bytes, got 0", id="empty"),
        pytest.param(lambda w: (w / "w.safetensors").unlink(), "exactly one", id="no weights"),
        pytest.param(lambda w: (w / "x.safetensors").write_bytes(b""), "exactly one .* found 2", id="two of them"),
        pytest.param(lambda w: (w / "w.json").unlink(), "expected a weight manifest", id="no manifest"),
        pytest.param(lambda w: (w / "w.json").write_text("[]"), "expected a weight manifest", id="not a manifest"),
        pytest.param(lambda w: edit(w, sha256=7), "expected the digest", id="no digest"),
        pytest.param(lambda w: edit(w, file="x.safetensors"), "expected the digest", id="of another file"),
        pytest.param(lambda w: edit(w, sha256="0" * 64), "expected SHA-256", id="another digest"),
        pytest.param(
            lambda w: artifact.save(w / "w.safetensors", {"a": torch.ones(1)}, {}),
            "the parameters of DigitCNN",
            id="other",
        ),
    ],
)
def test_what_does_not_verify_is_not_served(weights, damage, words):
    damage(weights)
    with pytest.raises(IntegrityError, match=words):
        ServedModel(weights)


def test_the_pin_counts_beside_the_manifest(weights):
    pin = artifact.read_manifest(weights / "w.safetensors")["sha256"]
    ServedModel(weights, pinned=pin)
    retrain(weights)
    ServedModel(weights)
    with pytest.raises(IntegrityError, match="expected the pinned SHA-256"):
        ServedModel(weights, pinned=pin)


def test_the_signature_counts_when_a_key_is_given(weights, tmp_path):
    pair = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(IntegrityError, match="expected a file, found none"):
        ServedModel(weights, public_key=public)
    artifact.sign(weights, private)
    ServedModel(weights, public_key=public)
    retrain(weights)
    ServedModel(weights)
    with pytest.raises(IntegrityError, match="not what was signed"):
        ServedModel(weights, public_key=public)


@pytest.mark.parametrize("how", ["turned", "gone", "longer", "kept its time"])
def test_a_file_that_changes_while_serving_changes_readiness_and_no_answer(weights, how, monkeypatch):
    monkeypatch.setattr(model, "LOOK_AGAIN_SECONDS", 0.0)
    served = ServedModel(weights)
    before, path = served.predict(PIXELS), weights / "w.safetensors"
    content, status = path.read_bytes(), path.stat()
    assert served.trouble() is None
    if how == "gone":
        path.unlink()
    elif how == "longer":
        path.write_bytes(content + b"x")
    else:
        swap(weights)
        if how == "kept its time":
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert served.trouble() == "the weight file is no longer the verified one"
    assert served.predict(PIXELS) == before
    path.write_bytes(content)
    assert served.trouble() is None


def test_a_touch_alone_is_no_change(weights):
    served = ServedModel(weights)
    os.utime(weights / "w.safetensors")
    assert served.trouble() is None


def test_digests_are_not_taken_at_the_pace_of_whoever_asks(weights, monkeypatch):
    served, taken = ServedModel(weights), []
    swap(weights)
    monkeypatch.setattr(model.artifact, "sha256", lambda content: taken.append(1) or "0" * 64)
    assert all(served.trouble() for _ in range(100))
    assert len(taken) == 1
