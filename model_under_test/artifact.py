"""Our own weight files: safetensors beside a JSON manifest that pins them. Never pickle.

The bytes whose digest was verified are the bytes that are parsed. Every write is atomic: a reader sees the old file, or
the new file, or none.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from model_under_test.errors import IntegrityError

MANIFEST_VERSION = 1
MAXIMUM_BYTES = 64 * 2**20


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def load(path: Path, pinned: str) -> dict[str, Tensor]:
    """Read a safetensors file once, verify its digest and parse the verified bytes.

    Args:
        path: the weight file.
        pinned: its SHA-256 in hexadecimal.

    Raises:
        IntegrityError: missing, too large, of another digest, or not safetensors.
    """
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
    """Parse safetensors bytes.

    Raises:
        IntegrityError: the bytes are something else, a pickle for example.
    """
    try:
        tensors: dict[str, Tensor] = parse_safetensors(content)
    except SafetensorError as error:
        raise IntegrityError(f"{where}: expected safetensors, got {error}; pickled weights are never loaded") from error
    return tensors


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
