"""What training keeps in the cache: weights and checkpoints, each believed only at its own content address.

An archive of the cache that is restored in the wrong place, by mistake or on purpose, puts whole files of one recipe
where another's are looked for, manifest and digest included. So what is found must say of itself that it belongs there.
Who can rewrite a manifest can still pass weights of their own for cached ones: they are never called pinned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors

from model_under_test import artifact
from model_under_test.errors import IntegrityError
from model_under_test.recipes import Recipe
from model_under_test.training import Checkpoint


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder of the cache while the span lasts; a process that dies lets go of it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def verified(path: Path, recipe: Recipe, address: str) -> str:
    """Return the SHA-256 of cached weights whose manifest names this recipe, this address and just these bytes.

    Raises:
        IntegrityError: they belong to another recipe or another address, or they are damaged.
    """
    manifest = artifact.read_manifest(path)
    found = manifest.get("recipe")
    if found != recipe.config():
        name = found.get("name") if isinstance(found, dict) else found
        raise IntegrityError(
            f"{path}: expected weights of the recipe {recipe.name} as it is now, the manifest says {name}"
        )
    if manifest.get("address") != f"sha256:{address}":
        raise IntegrityError(
            f"{path}: expected weights of the content address sha256:{address}, the manifest says "
            f"{manifest.get('address')}"
        )
    digest = str(manifest.get("sha256"))
    artifact.load(path, digest)
    return digest


def write_checkpoint(path: Path, state: Checkpoint, address: str) -> None:
    """Save where a run stands in one atomic file: SHA-256 in hexadecimal, a newline, safetensors."""
    metadata = {"epoch": str(state.epoch), "history": json.dumps(state.history), "address": address}
    content = dump_safetensors(state.tensors, metadata)
    artifact.write(path, artifact.sha256(content).encode() + b"\n" + content)


def read_checkpoint(path: Path, address: str) -> Checkpoint:
    """Return where an interrupted run stands; a fresh start where that is unknown, damaged or another run's."""
    if not path.is_file():
        return Checkpoint()
    digest, _, content = path.read_bytes().partition(b"\n")
    metadata = _metadata(content) if artifact.sha256(content).encode() == digest else {}
    if metadata.get("address") != address:
        set_aside(path)
        return Checkpoint()
    return Checkpoint(int(metadata["epoch"]), parse_safetensors(content), json.loads(metadata["history"]))


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def set_aside(path: Path) -> Path:
    """Rename what is not believed, so that it can be looked at, and return its new path."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    path.rename(aside)
    return aside
