"""Reference networks: clean networks of a recipe, each trained with a seed of its own, to compare others with.

What they contribute to a verdict is a few counts. Those may be pinned, in a file that names the digests of the training
(recipe, data, code) and of the code that counted; the networks are trained again where one of them differs, where
something is asked that nobody pinned, and with ``--retrain``. ``python -m audit pin-references`` writes such a file.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from audit import outcome
from audit.errors import PolicyError
from audit.files import write_atomically
from audit.loading import Samples
from audit.measure import Laboratory
from audit.outcome import Rate
from audit.poisoning import inversion, triggers
from audit.poisoning.triggers import AnyTrigger, Trigger
from audit.records import Record, Sha256
from audit.target import TorchTarget
from audit.trial import samples_digest

COUNTED_BY = (triggers, outcome, inversion)
Counts = tuple[Annotated[int, Field(ge=0)], ...]


class PinnedRates(Record):
    """How many images of other classes a trigger turned into each class, of how many; ``samples`` says which images.

    Their order does not matter here, nor for accuracies; an inversion begins with the first.
    """

    trigger: AnyTrigger
    samples: str
    classes: Counts
    hits: Counts
    n: Counts


class PinnedAccuracy(Record):
    """How many unchanged images were classified correctly."""

    samples: str
    right: Annotated[int, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]


class PinnedInversion(Record):
    """Size in pixels of the smallest trigger that inversion found for any class; None where none works."""

    samples: str
    steps: int
    seed: int
    smallest: Annotated[float, Field(gt=0.0)] | None


class PinnedNetwork(Record):
    """What one reference network contributes."""

    seed: int
    weights_sha256: Sha256
    rates: tuple[PinnedRates, ...] = ()
    accuracies: tuple[PinnedAccuracy, ...] = ()
    inversions: tuple[PinnedInversion, ...] = ()


class Pins(Record):
    """A file of pinned contributions, and what they came from."""

    schema_version: int = 1
    recipe: str
    training: str
    counted_by: str
    networks: tuple[PinnedNetwork, ...]

    def of(self, seed: int) -> PinnedNetwork | None:
        """Return what is pinned of the network with this seed."""
        return next((one for one in self.networks if one.seed == seed), None)


@dataclass(frozen=True)
class Reference:
    """A reference network: what is pinned of it, and the network itself, trained when something else is asked."""

    name: str
    classes: int
    laboratory: Laboratory
    make: Callable[[], TorchTarget]
    pinned: PinnedNetwork | None = None

    @cached_property
    def target(self) -> TorchTarget:
        """Return the network."""
        return self.make()

    def rates(self, samples: Samples, trigger: Trigger) -> tuple[Rate, ...]:
        """Return the attack success rates of a trigger, one a class."""
        digest = images_digest(samples)
        for one in self.pinned.rates if self.pinned else ():
            if one.trigger == trigger and one.samples == digest:
                counts = zip(one.classes, one.hits, one.n, strict=True)
                return tuple(Rate(self.name, *each) for each in counts)
        return outcome.rates(self.name, self.laboratory.triggered(self.target, samples, trigger), self.classes)

    def right(self, samples: Samples) -> int:
        """Return how many unchanged images are classified correctly."""
        digest = images_digest(samples)
        for one in self.pinned.accuracies if self.pinned else ():
            if one.samples == digest:
                return one.right
        seen = self.laboratory.clean(self.target, samples)
        return int((seen.after == seen.labels).sum())

    def smallest_trigger(self, samples: Samples, steps: int, seed: int) -> float:
        """Return the size in pixels of the smallest trigger that inversion finds for any class."""
        asked = (samples_digest(samples), steps, seed)
        for one in self.pinned.inversions if self.pinned else ():
            if (one.samples, one.steps, one.seed) == asked:
                return math.inf if one.smallest is None else one.smallest
        return inversion.inverted(self.laboratory, self.target, samples, steps, seed).smallest


@dataclass(frozen=True, slots=True)
class Asked:
    """What the checks of a policy ask of its references: triggers and images, and steps and seed of inversions."""

    triggers: tuple[tuple[Trigger, Samples], ...]
    inversions: tuple[tuple[Samples, int, int], ...]

    def prepare(self, reference: Reference) -> None:
        """Train a reference, and leave in the store what is kept there."""
        for images, steps, start in self.inversions:
            reference.smallest_trigger(images, steps, start)
        _ = reference.target

    def of(self, reference: Reference, seed: int, weights_sha256: str) -> PinnedNetwork:
        """Return what a trained reference contributes."""
        rates = [(trigger, samples, reference.rates(samples, trigger)) for trigger, samples in self.triggers]
        images = {images_digest(samples): samples for _, samples in self.triggers}
        return PinnedNetwork(
            seed=seed,
            weights_sha256=weights_sha256,
            rates=tuple(
                PinnedRates(
                    trigger=trigger,
                    samples=images_digest(samples),
                    classes=tuple(one.target_class for one in found),
                    hits=tuple(one.hits for one in found),
                    n=tuple(one.n for one in found),
                )
                for trigger, samples, found in rates
            ),
            accuracies=tuple(
                PinnedAccuracy(samples=digest, right=reference.right(samples), n=len(samples))
                for digest, samples in images.items()
            ),
            inversions=tuple(
                PinnedInversion(
                    samples=samples_digest(samples),
                    steps=steps,
                    seed=start,
                    smallest=size if math.isfinite(size) else None,
                )
                for samples, steps, start, size in (
                    (*asked, reference.smallest_trigger(*asked)) for asked in self.inversions
                )
            ),
        )


def images_digest(samples: Samples) -> str:
    """Return the SHA-256 of images, labels and places, whatever their order: counts do not hang on it."""
    return samples_digest(samples.at(samples.index.argsort()))


def read(path: Path) -> Pins:
    """Read a file of pins.

    Raises:
        PolicyError: it is none.
    """
    try:
        return Pins.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PolicyError(
            f"{path.name}: {where}: {first['msg']}; write it anew with python -m audit pin-references"
        ) from error


def write(path: Path, pins: Pins) -> None:
    """Write a file of pins, one number a line, so that a review sees which of them changed."""
    write_atomically(path, (json.dumps(pins.model_dump(mode="json"), indent=1) + "\n").encode())


def outdated(pins: Pins, recipe: str, training: str) -> str | None:
    """Return why pins do not hold for this training and this code; None where they do."""
    if pins.recipe != recipe:
        return f"they are of the recipe {pins.recipe}, not {recipe}"
    if pins.training != training:
        return "recipe, data or training code are others"
    if pins.counted_by != counted_by():
        return "the code that counts is another"
    return None


def counted_by() -> str:
    """Return the SHA-256 of the code that turns a reference network into counts; comments and docstrings apart."""
    return code_digest(Path(module.__file__ or "") for module in COUNTED_BY)


def code_digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 of Python files as the compiler sees them: without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if documented and ast.get_docstring(node) is not None:  # type: ignore[arg-type]
                node.body = node.body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        digest.update(ast.unparse(tree).encode())
    return f"sha256:{digest.hexdigest()}"


def prepare(references: Sequence[Reference], work: Callable[[Reference], object]) -> None:
    """Do what trains references side by side, for what it leaves in the caches."""
    unpinned = [one for one in references if one.pinned is None]
    for one in unpinned[:1]:
        one.laboratory.workers.side_by_side([partial(work, each) for each in unpinned])
