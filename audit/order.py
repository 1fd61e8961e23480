"""In which order the images of the audit split are looked at, so that whoever made them could not have known it.

Attacks stop as soon as an interval decides, limits keep the first images, and without a training split a share of them
is held out of every figure: with an order that everybody knows, easy images could be put where they count.

Data that the policy pins sample for sample come in an order derived from the pins: they were reviewed, and every audit
of them looks at the same images. For all other data an order is drawn from the system when they are first seen, and
kept in the cache under their digest, so that stored results go on being found; with a tag by the secret that vouches
for those, since whoever restores a cache would choose the order otherwise. Other data, be it one pixel or another
order of the same images, have another digest, and an order that is drawn anew. ``--order-seed`` repeats a recorded one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from audit.files import only_one, write_atomically
from audit.loading import Samples, content_digest
from audit.records import Record
from audit.requirements import IntegrityRequirement, Requirement

SEED_BYTES = 6  # JSON readers take integers of up to 53 bits for what they are


class Origin(StrEnum):
    """Where the seed of an order comes from."""

    PINNED = "derived from the digests that the policy pins"
    DRAWN = "drawn by the system when these data were first audited, and kept in the cache"
    GIVEN = "given with --order-seed"


class Order(Record):
    """The seed of a random order, and where it comes from."""

    seed: int
    origin: Origin

    @property
    def to_give(self) -> int | None:
        """Return the seed that must be given to repeat it; None where the data give it themselves."""
        return None if self.origin is Origin.PINNED else self.seed


class _Kept(Record):
    """What the cache keeps of an order, and a tag of it, as stored results have one."""

    seed: Annotated[int, Field(ge=0, lt=2 ** (8 * SEED_BYTES))]
    tag: str


def order_of(
    requirements: Iterable[Requirement], audit: Samples, cache: Path, given: int | None, secret: bytes
) -> Order:
    """Return the order in which the audit split is looked at.

    Args:
        requirements: of the policy; one of the check ``integrity`` pins the data, if they are what it pins.
        audit: the audit split, all of it.
        cache: the folder in which a drawn order is kept.
        given: the seed that was asked for, if one was.
        secret: lies outside the cache, and vouches for an order that was kept there.
    """
    if given is not None:
        return Order(seed=given, origin=Origin.GIVEN)
    digest = content_digest(audit.images, audit.labels).removeprefix("sha256:")
    for one in requirements:
        if isinstance(one, IntegrityRequirement) and one.audit == digest:
            return Order(seed=_derived(one), origin=Origin.PINNED)
    return _drawn_once(cache / "orders" / f"{digest}.json", secret)


def _derived(pins: IntegrityRequirement) -> int:
    text = json.dumps([pins.training, pins.audit, pins.raw_files], sort_keys=True)
    return int.from_bytes(hashlib.sha256(f"order of the audit split {text}".encode()).digest()[:SEED_BYTES], "big")


def _drawn_once(path: Path, secret: bytes) -> Order:
    """Return the order that is kept in a file; without one, or where it is damaged or was put there, draw it."""

    def tag(seed: int) -> str:
        return hmac.digest(secret, f"order {path.stem} {seed}".encode(), "sha256").hex()

    with only_one(path.with_suffix(".lock")):
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            kept = None
        if kept is None or not hmac.compare_digest(kept.tag.encode(), tag(kept.seed).encode()):
            seed = secrets.randbits(8 * SEED_BYTES)
            kept = _Kept(seed=seed, tag=tag(seed))
            write_atomically(path, f"{kept.model_dump_json()}\n".encode())
    return Order(seed=kept.seed, origin=Origin.DRAWN)
