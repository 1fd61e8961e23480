"""Content-addressed store of per-sample results: what was measured once for the same inputs is not measured again.

What a result is kept under names what determines it (weights, data, attack and settings, code, versions, device);
whoever reads it checks a part of it again. Each file begins with a tag, HMAC-SHA256 (RFC 2104) over its address and
content by a secret that lies outside the folder: what was put there by somebody else, a restored cache for example, is
not believed. Such a file, or a damaged one, is set aside and the result measured again.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.errors import PolicyError
from audit.files import only_one, write_atomically

Arrays = Mapping[str, NDArray[Any]]
SECRET_BYTES = TAG_BYTES = hashlib.sha256().digest_size
FILE_VARIABLE = "MODEL_AUDIT_SECRET_FILE"


class Store:
    """A folder of ``<address>.result`` files: a tag, and an npz archive of arrays and a JSON description of them."""

    def __init__(self, root: Path, secret: bytes) -> None:
        """Use ``root``, which is created on the first write, and believe what was written with the same secret."""
        self._root, self._secret = root, secret
        self._set_aside: list[str] = []

    @property
    def notes(self) -> list[str]:
        """Return what is to be told of results that were not believed."""
        if not self._set_aside:
            return []
        first = ", ".join(self._set_aside[:3])
        count = len(self._set_aside)
        return [f"{count} stored results were damaged, or written elsewhere: set aside and measured again ({first})"]

    def get(self, key: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return arrays and description stored under a key, or None."""
        path = self._path(key)
        if not path.is_file():
            return None
        content = path.read_bytes()
        tag, archive = content[:TAG_BYTES], content[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(path, archive)):
            aside = path.with_suffix(".aside")
            path.replace(aside)
            self._set_aside.append(aside.name)
            return None
        with np.load(io.BytesIO(archive), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return arrays, json.loads(arrays.pop("description").tobytes())

    def forget(self, key: Mapping[str, Any]) -> None:
        """Remove what is stored under a key, if anything is."""
        self._path(key).unlink(missing_ok=True)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Tell whether something is stored under a key; :meth:`get` tells whether it can be read."""
        return self._path(key).is_file()

    @contextmanager
    def computing(self, key: Mapping[str, Any]) -> Iterator[None]:
        """Let one process at a time compute what belongs under a key; the others wait, and then look again."""
        lock = self._path(key).with_suffix(".lock")
        with only_one(lock):
            try:
                yield
            finally:  # whoever waits has the file open; whoever comes later finds the result, or computes it too
                lock.unlink(missing_ok=True)

    def put(self, key: Mapping[str, Any], arrays: Arrays, description: Mapping[str, Any]) -> None:
        """Write arrays and a JSON-compatible description atomically."""
        text = json.dumps(dict(description), allow_nan=False).encode()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays, description=np.frombuffer(text, dtype=np.uint8))
        path, archive = self._path(key), buffer.getvalue()
        write_atomically(path, self._tag(path, archive) + archive)

    def _tag(self, path: Path, archive: bytes) -> bytes:
        return hmac.digest(self._secret, path.stem.encode() + archive, "sha256")

    def _path(self, key: Mapping[str, Any]) -> Path:
        address = hashlib.sha256(json.dumps(dict(key), sort_keys=True, allow_nan=False).encode()).hexdigest()
        return self._root / f"{address}.result"


def machine_secret(store: Path) -> bytes:
    """Return the secret of this machine and user, made on first use.

    It lies in ``$MODEL_AUDIT_SECRET_FILE``, else in ``$XDG_STATE_HOME/model-audit/secret`` (``~/.local/state``).
    Where it cannot be kept, it is another one each time, and no stored result is believed.

    Raises:
        PolicyError: it lies in the folder of results, others may read it, or it is no secret.
    """
    path = _secret_file()
    if path.resolve().is_relative_to(store.resolve()):
        raise PolicyError(f"{FILE_VARIABLE}: expected a file outside the cache folder, whose results it vouches for")
    try:
        if not path.exists():
            write_atomically(path, secrets.token_bytes(SECRET_BYTES), mode=0o600)
        found = path.read_bytes()
    except OSError:
        return secrets.token_bytes(SECRET_BYTES)
    if len(found) < SECRET_BYTES or path.stat().st_mode & 0o077:
        raise PolicyError(
            f"{path.name}, the secret that vouches for stored results: expected at least {SECRET_BYTES} bytes that "
            f"only their owner may read (got {len(found)} bytes, mode {path.stat().st_mode & 0o777:o}); "
            "chmod 600 it, or delete it and everything is measured again"
        )
    return found


def _secret_file() -> Path:
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "model-audit/secret"
