"""Signatures over a folder of model files, by the OpenSSF's ``model-signing`` with a key pair, offline.

The signature is a Sigstore bundle around an in-toto statement that lists every file with its SHA-256. It vouches for
the folder as a whole: a changed byte, a missing file and one too many all break it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from audit.errors import IntegrityError

NAME = "model.sig"  # in the folder that it vouches for, unless the policy says where


def verify(folder: Path, signature: Path, public_key: Path) -> dict[str, str]:
    """Verify a folder against its signature.

    Args:
        folder: all of it must be signed, but for the signature itself.
        signature: the bundle.
        public_key: PEM of an elliptic curve key, P-256 for example.

    Returns:
        The SHA-256 of every signed file by its path in the folder.

    Raises:
        IntegrityError: there is no such file, no such key, or the folder is not what was signed.
    """
    from model_signing import verifying

    for path, what in ((signature, "a signature"), (public_key, "a public key")):
        if not path.is_file():
            raise IntegrityError(f"{path.name}: expected {what} for {folder.name}, found no such file")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        verifier.set_hashing_config(all_but(signature)).verify(folder, signature)
        signed = _statement(signature)
    except Exception as error:  # the library raises whatever its parsers raise
        why = " ".join(str(error).replace(f"{folder}/", "").split())[:300] or type(error).__name__
        raise IntegrityError(
            f"{folder.name}: expected what {signature.name} vouches for, under {public_key.name}: {why}; restore the "
            "folder, or sign it again after review"
        ) from error
    left_out = set(signed["serialization"].get("ignore_paths", ())) - {signature.name}
    if left_out:
        raise IntegrityError(
            f"{signature.name}: expected a signature over the whole folder, but it leaves out {', '.join(left_out)}"
        )
    return {one["name"]: one["digest"] for one in signed["resources"]}


def all_but(signature: Path) -> Any:
    """Return how a folder is hashed; by default the library would let files of git be added unseen."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)


def _statement(signature: Path) -> dict[str, Any]:
    """Return what a signature says, once it was verified."""
    payload = json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]
    said: dict[str, Any] = json.loads(base64.b64decode(payload))["predicate"]
    return said
