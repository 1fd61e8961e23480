"""Signing with a key made for the occasion: the control of signatures, nothing that vouches for a release."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from audit.artifacts.signature import all_but


def sign_with_new_key(folder: Path, signature: Path, keys: Path) -> Path:
    """Sign a folder with a new P-256 key, which is deleted at once; return its public half, a file in ``keys``."""
    from model_signing import signing

    pair = ec.generate_private_key(ec.SECP256R1())
    private, public = keys / "private.pem", keys / "public.pem"
    private.touch(mode=0o600)
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private)
        signer.set_hashing_config(all_but(signature)).sign(folder, signature)
    finally:
        private.unlink()
    return public
