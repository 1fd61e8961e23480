"""Weights that a policy names: where they lie, the digest that they must have, and what vouches for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from audit.artifacts import signature
from audit.artifacts.weights import file_sha256
from audit.errors import IntegrityError, TargetError
from audit.policy import TargetSpec


class WeightsOrigin(StrEnum):
    """What vouches for a weight file: a digest in the policy, or under a signature; the trainer here; or nothing."""

    PINNED = "pinned"
    MADE_HERE = "made here"
    UNPINNED = "not pinned"


@dataclass(frozen=True, slots=True)
class Weights:
    """A weight file, the digest it must have if one is known, the one it had at first sight, and what vouches for it.

    What the trainer made here, or took from its cache, has the digest that the trainer names: nobody reviewed it.
    """

    path: Path
    sha256: str | None
    found: str | None
    origin: WeightsOrigin


def pinned(path: Path, sha256: str | None) -> Weights:
    """Return a weight file that the policy names, and the digest it has now."""
    return Weights(path, sha256, file_sha256(path), WeightsOrigin.PINNED if sha256 else WeightsOrigin.UNPINNED)


def weights(name: str, spec: TargetSpec, root: Path) -> Weights:
    """Return the weight file of a target with its pin: the policy's digest, and the signed one if a key is configured.

    Raises:
        IntegrityError: the folder is not what was signed, or the two digests differ.
    """
    path = root / (spec.weights or "")
    if spec.public_key is None:
        return pinned(path, spec.sha256)
    signed = signed_files(name, spec, root).get(path.name)
    if spec.sha256 not in (None, signed):
        raise IntegrityError(f"{path.name}: expected SHA-256 {spec.sha256} (pinned in the policy), signed is {signed}")
    return pinned(path, signed)


def signed_files(name: str, spec: TargetSpec, root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in the folder of a target's weights, once its signature was verified.

    Raises:
        IntegrityError: the folder is not what was signed.
        TargetError: the policy names no public key for this target.
    """
    if spec.weights is None or spec.public_key is None:
        raise TargetError(f"target {name}: no public key is configured (targets.{name}.public_key)")
    folder = (root / spec.weights).parent
    where = root / spec.signature if spec.signature is not None else folder / signature.NAME
    return signature.verify(folder, where, root / spec.public_key)
