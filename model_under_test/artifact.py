"""Our own weight files: safetensors beside a JSON manifest that pins them. Never pickle.

The bytes whose digest was verified are the bytes that are parsed. Every write is atomic: a reader sees the old file, or
the new file, or none.

    python -m model_under_test.artifact sign FOLDER --private-key release.pem
    python -m model_under_test.artifact verify FOLDER --public-key release.pub.pem

sign a folder of weights, and verify it: whoever has the public key then knows that every file in it is the one that was
released. Keys are elliptic curve keys in PEM; CONTRIBUTING.md says how to make a pair.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from model_under_test.errors import IntegrityError

MANIFEST_VERSION = 1
MAXIMUM_BYTES = 64 * 2**20
MAXIMUM_HEADER = 2**16
MAXIMUM_TENSORS = 1_000
MAXIMUM_LETTERS = 200  # of a name
DTYPES = (torch.float32, torch.int64)  # weights, and counters of batch normalisation
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
SIGNATURE = "model.sig"


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def load(path: Path, pinned: str, public_key: Path | None = None) -> dict[str, Tensor]:
    """Read a safetensors file once, verify its digest and parse the verified bytes.

    Args:
        path: the weight file.
        pinned: its SHA-256 in hexadecimal.
        public_key: with one, the signature of the file's folder is verified first, and must vouch for that digest.

    Raises:
        IntegrityError: missing, too large, of another digest, not signed, or not safetensors of ours.
    """
    if public_key is not None and (signed := verify(path.parent, public_key).get(path.name)) != pinned:
        raise IntegrityError(f"{path}: expected the signed SHA-256 {signed}, but {pinned} is pinned")
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise IntegrityError(f"{path}: expected at most {MAXIMUM_BYTES} bytes, got {path.stat().st_size}")
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: expected a weight file, got {error.strerror}; train it again") from error
    actual = sha256(content)
    if actual != pinned:
        raise IntegrityError(f"{path}: expected SHA-256 {pinned}, got {actual}; restore the file or train it again")
    return parse(content, str(path))


def parse(content: bytes, where: str) -> dict[str, Tensor]:
    """Parse safetensors bytes, and hold them to what our own networks need.

    Raises:
        IntegrityError: the bytes are something else, a pickle for example; or the header is too long or names a tensor
            twice; or a tensor has a name, a dtype or numbers that no network of ours has.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        if length > MAXIMUM_HEADER:
            raise ValueError(f"a header of {length} bytes, at most {MAXIMUM_HEADER}")
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_each_once)
        header.pop("__metadata__", None)
        if any(set(entry) != {"dtype", "shape", "data_offsets"} for entry in header.values()):
            raise ValueError("a tensor described by other keys than dtype, shape and data_offsets")
        tensors: dict[str, Tensor] = parse_safetensors(content)
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{where}: expected safetensors, got {error}; pickled weights are never loaded") from error
    if len(tensors) > MAXIMUM_TENSORS:
        raise IntegrityError(f"{where}: expected at most {MAXIMUM_TENSORS} tensors, got {len(tensors)}")
    for name, tensor in tensors.items():
        if len(name) > MAXIMUM_LETTERS or not NAME.fullmatch(name):
            raise IntegrityError(f"{where}: expected names of parameters, got {name[:80]!r}")
        if tensor.dtype not in DTYPES:
            raise IntegrityError(f"{where}: expected {name} in {' or '.join(map(str, DTYPES))}, got {tensor.dtype}")
        if not bool(torch.isfinite(tensor).all()):
            raise IntegrityError(f"{where}: expected finite numbers in {name}, got NaN or infinity")
    return tensors


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a header in which a key occurs twice")
    return found


def save(path: Path, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> dict[str, Any]:
    """Write weights and, after them, the manifest that names their digest.

    Returns:
        The manifest as written: ``manifest`` plus ``schema_version``, ``file``, ``sha256`` and ``bytes``.
    """
    content = dump_safetensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    written = {
        "schema_version": MANIFEST_VERSION,
        "file": path.name,
        "sha256": sha256(content),
        "bytes": len(content),
        **manifest,
    }
    write(path, content)
    write(manifest_path(path), (json.dumps(written, indent=2, allow_nan=False) + "\n").encode())
    return written


def manifest_path(path: Path) -> Path:
    """Return where the manifest of a weight file lies: the same name, ending in ``.json``."""
    return path.with_suffix(".json")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a weight file.

    Raises:
        IntegrityError: it is missing, not JSON, or of another version.
    """
    source = manifest_path(path)
    try:
        manifest: dict[str, Any] = json.loads(source.read_bytes())
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{source}: expected a weight manifest, got {error!r}; train it again") from error
    if version != MANIFEST_VERSION:
        raise IntegrityError(f"{source}: expected schema_version {MANIFEST_VERSION}, got {version!r}; train it again")
    return manifest


def write(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def sign(folder: Path, private_key: Path) -> Path:
    """Sign every file of a folder with an elliptic curve key; return the signature, ``model.sig`` in that folder.

    Raises:
        IntegrityError: there is no such folder or key, or the key is of another kind.
    """
    from model_signing import signing

    signature = folder / SIGNATURE
    _expect(folder, private_key)
    with tempfile.TemporaryDirectory() as outside:
        fresh = Path(outside) / SIGNATURE
        try:
            signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
            signer.set_hashing_config(_all_but(signature)).sign(folder, fresh)
        except Exception as error:  # the library raises whatever its parsers raise
            raise IntegrityError(f"{folder}: could not be signed with {private_key}: {_said(error)}") from error
        write(signature, fresh.read_bytes())
    return signature


def verify(folder: Path, public_key: Path) -> dict[str, str]:
    """Hold a folder to its signature: a changed byte, a missing file and one too many all break it.

    Returns:
        The SHA-256 of every signed file by its path in the folder.

    Raises:
        IntegrityError: it is not what was signed with the key that belongs to ``public_key``.
    """
    from model_signing import verifying

    signature = folder / SIGNATURE
    _expect(folder, public_key, signature)
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        verifier.set_hashing_config(_all_but(signature)).verify(folder, signature)
        payload = json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]
        statement = json.loads(base64.b64decode(payload))["predicate"]
        if statement["serialization"].get("ignore_paths", []) not in ([], [SIGNATURE]):
            raise ValueError("the signature leaves files out")
    except Exception as error:
        raise IntegrityError(f"{folder}: not what was signed: {_said(error)}; restore it, or sign it anew") from error
    return {one["name"]: one["digest"] for one in statement["resources"]}


def _all_but(signature: Path) -> Any:
    """Return how a folder is hashed; by default the library would let files of git be added unseen."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)


def _expect(folder: Path, *files: Path) -> None:
    if not folder.is_dir():
        raise IntegrityError(f"{folder}: expected a folder of weights, found none")
    for path in files:
        if not path.is_file():
            raise IntegrityError(f"{path}: expected a file, found none")


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Sign or verify a folder; returns 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m model_under_test.artifact", description="Signatures of weights.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    signing = verbs.add_parser("sign", help=f"sign every file of a folder; the signature is {SIGNATURE} in it")
    signing.add_argument("--private-key", type=Path, required=True, metavar="PEM")
    verifying = verbs.add_parser("verify", help="hold a folder to its signature")
    verifying.add_argument("--public-key", type=Path, required=True, metavar="PEM")
    for verb in (signing, verifying):
        verb.add_argument("folder", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "sign":
            sys.stdout.write(f"signed: {sign(options.folder, options.private_key)}\n")
        else:
            verify(options.folder, options.public_key)
            sys.stdout.write(f"verified: {options.folder}\n")
    except IntegrityError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
