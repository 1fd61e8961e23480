"""Weight files of targets: read once, verified, and loaded without ever unpickling anything in this process.

The order is always size, digest, then content: what the bytes are decides, not what the file is called. Safetensors
are parsed here. A torch state dict, which is a pickle, must pass a scan of its opcodes and is loaded by a child process
that hands back safetensors. Everything else is refused. The bytes that were verified are the bytes that are loaded.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from torch import Tensor

from audit.artifacts import safetensors_file, torch_file
from audit.artifacts.formats import STATE_DICTS, refused_kind
from audit.errors import IntegrityError

MOST_BYTES = 8 * 2**30


def load_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Load a weight file: read once, verify, and load the verified bytes.

    Args:
        path: safetensors, or a torch state dict, alone or under the key ``state_dict``.
        sha256: the SHA-256 that it must have, None where none is known.

    Raises:
        IntegrityError: it cannot be read, its digest differs, or its content is refused.
    """
    content = _read_verified(path, sha256)
    if safetensors_file.looks_like(content):  # first, since the length of a header may begin like a pickle
        return safetensors_file.parse(content, path.name)
    kind = refused_kind(content)
    if kind is not None:
        raise IntegrityError(
            f"{path.name}: expected safetensors or a torch state dict, got {kind}; pickles and archives are never "
            "loaded: save the weights again with safetensors.torch.save_file(network.state_dict(), ...)"
        )
    if content.startswith(STATE_DICTS):
        return torch_file.load_state_dict(content, path.name)
    return safetensors_file.parse(content, path.name)


def file_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a regular file of no more than the limit, None where there is none to read."""
    try:
        return hashlib.sha256(_read_verified(path, None)).hexdigest()
    except IntegrityError:
        return None


def _read_verified(path: Path, sha256: str | None) -> bytes:
    """Read a regular file once, and return the bytes whose size and digest were checked.

    Raises:
        IntegrityError: it cannot be read, is too large, or its SHA-256 is not the pinned one.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:  # Path.open takes no opener
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise IntegrityError(f"{path.name}: expected a regular file, got a device, a pipe or a folder")
            if found.st_size > MOST_BYTES:
                raise IntegrityError(f"{path.name}: expected at most {MOST_BYTES:,} bytes, got {found.st_size:,}")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise IntegrityError(f"{path.name}: expected a weight file, got {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise IntegrityError(
            f"{path.name}: expected SHA-256 {sha256} (pinned in the policy, or of what was made here), got "
            f"{actual}; restore the file, or pin the new digest after review"
        )
    return content


def _without_waiting(name: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to is opened at once, and then seen to be no regular file."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
