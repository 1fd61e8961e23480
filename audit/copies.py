"""Images that are there more than once: within the audit split, and in it and in the training split. Byte for byte.

An interval takes every image for evidence of its own, so a repeated one is judged once; an image that the target was
trained on says nothing about others, so it is not judged. Where there are many of either, the split is no test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from audit.errors import DataError
from audit.loading import Dataset, Samples
from audit.records import Measurement

MOST = 0.01  # share of the audit split; MNIST and scikit-learn's digits have none of either kind


@dataclass(frozen=True, slots=True)
class Copies:
    """Of ``n`` images of an audit split: which are judged, and why the others are not.

    ``repeats`` equal an earlier one; ``trained_on`` are in the training split too, None where there is no such split.
    """

    judged: Samples
    n: int
    repeats: int
    trained_on: int | None

    def describe(self) -> dict[str, Any]:
        """Return the numbers, for the report."""
        return {"images": self.n, "repeats": self.repeats, "trained_on": self.trained_on, "judged": len(self.judged)}

    def named_in(self, measured: Measurement) -> Measurement:
        """Return a measurement that says how many images of which kind it left out, where there are any."""
        counts = {"repeats_left_out": self.repeats, "training_images_left_out": self.trained_on or 0}
        settings = measured.settings | {name: count for name, count in counts.items() if count}
        return measured.model_copy(update={"settings": settings})

    def notes(self) -> Iterator[str]:
        """Yield what this means for the figures."""
        if self.repeats:
            yield f"{self.repeats} of {self.n:,} audit images repeat another one byte for byte: each is judged once"
        if self.trained_on:
            yield f"{self.trained_on} of {self.n:,} audit images are training images too, byte for byte: not judged"
        if self.trained_on is None:
            yield (
                "the dataset gives no training split: whether the target was trained on images that it is judged on "
                "could not be looked at"
            )


def copies_in(dataset: Dataset) -> Copies:
    """Find the images of an audit split that are there more than once, or that are training images too.

    Raises:
        DataError: there are so many of them that the split is no test.
    """
    seen: set[bytes] = set()
    trained = None if dataset.training is None else set(_digests(dataset.training))
    keep, repeats, known = [], 0, 0
    for digest in _digests(dataset.audit):
        keep.append(digest not in seen and digest not in (trained or ()))
        repeats += digest in seen
        known += digest not in seen and digest in (trained or ())
        seen.add(digest)
    _refuse_many(dataset, repeats, "that differ", "repeat another one", "leave out the repeats")
    _refuse_many(dataset, known, "that nobody trained on", "are in the training split", "judge on a split held out")
    judged = dataset.audit if all(keep) else dataset.audit.where(torch.tensor(keep))
    return Copies(judged, len(dataset.audit), repeats, None if trained is None else known)


def _refuse_many(dataset: Dataset, count: int, expected: str, got: str, remedy: str) -> None:
    n = len(dataset.audit)
    if count > MOST * n:
        raise DataError(
            f"dataset {dataset.name}: audit split: expected images {expected}, got {count:,} of {n:,} that {got} byte "
            f"for byte (at most {MOST:.0%} may); {remedy} in the dataset factory"
        )


def _digests(samples: Samples) -> Iterator[bytes]:
    return (hashlib.sha256(image).digest() for image in samples.images.numpy())
