"""Content-addressed store of per-sample results: what was measured once for the same inputs is not measured again.

The key names what determines the result (weights, data, attack and settings, code, versions, device); whoever reads it
checks a part of it again. A damaged file is set aside and the result measured again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.files import only_one, write_atomically

Arrays = Mapping[str, NDArray[Any]]


class Store:
    """A folder of ``<address>.npz`` files, each holding arrays and a JSON description of itself."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which is created on the first write."""
        self._root = root
        self.notes: list[str] = []

    def get(self, key: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return arrays and description stored under a key, or None."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return arrays, json.loads(arrays.pop("description").tobytes())
        except Exception as error:  # a damaged zip raises almost anything: BadZipFile, zlib.error, NotImplementedError
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            self.notes.append(f"{aside.name}: damaged result set aside and measured again ({type(error).__name__})")
            return None

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
        write_atomically(self._path(key), buffer.getvalue())

    def _path(self, key: Mapping[str, Any]) -> Path:
        address = hashlib.sha256(json.dumps(dict(key), sort_keys=True, allow_nan=False).encode()).hexdigest()
        return self._root / f"{address}.npz"
