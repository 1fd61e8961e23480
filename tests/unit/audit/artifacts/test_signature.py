"""Signatures: the untouched folder verifies; a changed byte, a missing and an added file do not."""

from __future__ import annotations

import json

import pytest

from audit.artifacts import signature
from audit.artifacts.signing import sign_with_new_key
from audit.errors import IntegrityError


@pytest.fixture
def signed(tmp_path):
    """Give a signed folder and the public key."""
    folder, keys = tmp_path / "model", tmp_path / "keys"
    (folder / "sub").mkdir(parents=True)
    keys.mkdir()
    (folder / "w.safetensors").write_bytes(b"weights")
    (folder / "w.json").write_text("{}", encoding="utf-8")
    (folder / "sub" / "more.json").write_text("{}", encoding="utf-8")
    return folder, sign_with_new_key(folder, folder / signature.NAME, keys)


def verified(signed):
    folder, key = signed
    return signature.verify(folder, folder / signature.NAME, key)


def test_the_untouched_folder_verifies_and_tells_its_digests(signed):
    files = verified(signed)
    assert set(files) == {"w.safetensors", "w.json", "sub/more.json"}
    assert all(len(digest) == 64 for digest in files.values())


def test_the_private_key_does_not_stay(signed):
    assert [path.name for path in signed[1].parent.iterdir()] == ["public.pem"]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        pytest.param(lambda f: (f / "w.safetensors").write_bytes(b"Weights"), "Hash mismatch for 'w.safe", id="byte"),
        pytest.param(lambda f: (f / "w.json").unlink(), "Missing files .* w.json", id="missing"),
        pytest.param(lambda f: (f / "extra.py").touch(), "Extra files .* extra.py", id="added"),
        pytest.param(lambda f: (f / ".gitignore").touch(), "Extra files .* .gitignore", id="added for git"),
        pytest.param(lambda f: (f / "w.json").rename(f / "v.json"), "Extra files .* v.json", id="renamed"),
        pytest.param(lambda f: (f / "link").symlink_to("/"), "symlink", id="a link"),
        pytest.param(lambda f: (f / signature.NAME).unlink(), "expected a signature", id="no signature"),
        pytest.param(lambda f: (f / signature.NAME).write_text("{}"), "expected what model.sig vouches", id="empty"),
        pytest.param(lambda f: (f / signature.NAME).write_text("?"), "expected what model.sig vouches", id="garbage"),
    ],
)
def test_a_tampered_folder_does_not(signed, tamper, words):
    tamper(signed[0])
    with pytest.raises(IntegrityError, match=words) as refused:
        verified(signed)
    assert str(signed[0].parent) not in str(refused.value)


def test_another_key_does_not_verify(signed, tmp_path):
    (tmp_path / "other").mkdir()
    other = sign_with_new_key(signed[0], tmp_path / "other.sig", tmp_path / "other")
    with pytest.raises(IntegrityError, match="Key mismatch"):
        verified((signed[0], other))


def test_a_missing_key_is_named(signed):
    with pytest.raises(IntegrityError, match=r"none\.pem: expected a public key"):
        verified((signed[0], signed[0] / "none.pem"))


def test_an_altered_statement_does_not_verify(signed):
    path = signed[0] / signature.NAME
    bundle = json.loads(path.read_bytes())
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][:-4] + "fX0="
    path.write_text(json.dumps(bundle), encoding="utf-8")
    with pytest.raises(IntegrityError):
        verified(signed)


def test_a_signature_that_leaves_files_out_is_refused(signed, tmp_path):
    """Whoever signs may exclude paths, and such a signature would let files be added there."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    from model_signing import hashing, signing

    pair, folder = ec.generate_private_key(ec.SECP256R1()), signed[0]
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    left_out = hashing.Config().set_ignored_paths(paths=[folder / signature.NAME, folder / "sub"])
    config = signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(left_out)
    config.sign(folder, folder / signature.NAME)
    with pytest.raises(IntegrityError, match="leaves out"):
        verified((folder, public))
