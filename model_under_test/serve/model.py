"""The network that is served: verified once, then held in memory, whatever happens to the file.

Answers come from what was verified; a file that changes afterwards changes readiness, nothing else.
"""

from __future__ import annotations

import hmac
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model_under_test import artifact, network
from model_under_test.errors import IntegrityError
from model_under_test.serve import chain

LOOK_AGAIN_SECONDS = 1.0  # between two digests of a file that keeps changing


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class 0..9 and the probability of each, summing to 1."""

    digit: int
    probabilities: tuple[float, ...]


class ServedModel:
    """A verified network, and a watch on the file it came from."""

    def __init__(self, folder: Path, *, pinned: str | None = None, public_key: Path | None = None) -> None:
        """Verify the one weight file of a folder and load it.

        Args:
            folder: holds exactly one ``*.safetensors`` and its manifest.
            pinned: SHA-256 in hexadecimal that the file must have besides.
            public_key: PEM; with one, the folder's signature is verified.

        Raises:
            IntegrityError: not exactly one file, or it is not what manifest, pin and signature say.
        """
        found = sorted(folder.glob("*.safetensors"))
        if len(found) != 1:
            raise IntegrityError(f"{folder}: expected exactly one *.safetensors, found {len(found)}")
        self._path = found[0]
        self._sha256 = _promised(self._path, pinned)
        before = _stamp(self._path)
        state = artifact.load(self._path, self._sha256, public_key)
        self._seen = before
        self._network = _build(state, self._path)
        self._mutex = threading.Lock()
        self._intact, self._looked = True, 0.0

    @property
    def digest(self) -> str:
        """Return ``sha256:`` and the digest of the weights that answer."""
        return f"sha256:{self._sha256}"

    def predict(self, pixels: Tensor) -> Prediction:
        """Classify one image, alone in its batch, so that no other request can change a bit of the answer.

        Args:
            pixels: (784,) float32 in [0, 1], row by row.
        """
        with torch.inference_mode():
            logits = self._network(pixels.reshape(1, *network.INPUT_SHAPE))[0]
            probabilities = torch.softmax(logits, dim=0)
        return Prediction(int(logits.argmax()), tuple(probabilities.tolist()))

    def trouble(self) -> str | None:
        """Say why the file on disk is no longer the verified one; None while it is.

        A stat tells whether anything happened; the digest is taken anew only then, and at most once a second. Between
        a change and its digest the file counts as changed.
        """
        with self._mutex:
            try:
                now = _stamp(self._path)
                if now != self._seen or not self._intact:
                    self._intact = False
                    if time.monotonic() - self._looked >= LOOK_AGAIN_SECONDS:
                        self._looked = time.monotonic()
                        self._intact = self._same_bytes()
                        self._seen = now
            except (OSError, IntegrityError):  # gone, or not readable
                self._intact = False
            return None if self._intact else "the weight file is no longer the verified one"

    def _same_bytes(self) -> bool:
        if self._path.stat().st_size > artifact.MAXIMUM_BYTES:
            return False
        return hmac.compare_digest(artifact.sha256(self._path.read_bytes()), self._sha256)


def _promised(path: Path, pinned: str | None) -> str:
    """Return the digest that the manifest names, after holding manifest, pin and size to each other."""
    manifest = artifact.read_manifest(path)
    named = manifest.get("sha256")
    if not isinstance(named, str) or manifest.get("file") != path.name:
        raise IntegrityError(f"{artifact.manifest_path(path)}: expected the digest of {path.name}; train it again")
    if pinned is not None and pinned != named:
        raise IntegrityError(f"{path}: expected the pinned SHA-256 {pinned}, but its manifest names {named}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise IntegrityError(f"{path}: expected a weight file, got {error.strerror}") from error
    if manifest.get("bytes") != size:
        raise IntegrityError(f"{path}: expected {manifest.get('bytes')} bytes, got {size}; restore the file")
    return named


def _build(state: dict[str, Tensor], path: Path) -> torch.nn.Module:
    built = network.build()
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{path}: expected the parameters of {type(built).__name__}, got: {reason}") from error
    return built.eval().requires_grad_(False)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return chain.stamp(path.stat())
    except OSError as error:
        raise IntegrityError(f"{path}: expected a weight file, got {error.strerror}") from error
