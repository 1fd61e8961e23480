"""One attack on one target: seeds, budget, projection, re-prediction, and per-sample results of a block of samples.

Nothing an attack says about itself is believed. What it returns is projected to the eps-ball and the pixel box, shown
to the target again in a fresh forward pass, and counted over all samples; those that were wrong before the attack count
as broken.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit import metrics
from audit.attacks import Attack
from audit.errors import AttackError
from audit.loading import Samples
from audit.outcome import STANDING, WRONG_BEFORE, Outcome
from audit.randomness import seeded
from audit.records import Norm, ThreatModel
from audit.target import Passes, TorchTarget, known

GALLERY = 8  # images kept for the report
RECHECKED = 50  # answers asked for again before a stored result is believed
Stored = tuple[dict[str, NDArray[Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a target was shown for a verdict, named: unchanged images without an attack, else what the attack left.

    ``on_target`` says that the target is the audited one, ``challenger`` that the attack is no requirement's own.
    """

    label: str
    target: str
    outcome: Outcome
    attack: Attack | None = None
    threat_model: ThreatModel | None = None
    crafted_on: str | None = None
    on_target: bool = True
    challenger: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The (N, classes) float32 logits that a target gave, and in how many seconds."""

    logits: Tensor
    seconds: float

    @classmethod
    def by(cls, target: TorchTarget, images: Tensor) -> Answered:
        """Ask a target: a network that sees nothing else, where there is one."""
        return cls(*target.fresh_logits(images))


@dataclass(slots=True)
class Seen:
    """What a target says about the images of a block, moved so far."""

    samples: Samples
    moved: Tensor
    clean: Tensor
    logits: Tensor
    broken_by: Tensor
    steps: Tensor
    inference_seconds: float

    @classmethod
    def of(cls, samples: Samples, moved: Tensor, clean: Answered, after: Answered) -> Seen:
        """Begin with what the target says of the unmoved images, and of the moved ones."""
        broken_by = torch.where(clean.logits.argmax(1) == samples.labels, STANDING, WRONG_BEFORE)
        steps = torch.zeros_like(broken_by)
        return cls(samples, moved, clean.logits, after.logits.clone(), broken_by, steps, after.seconds)

    def arrays(self, norm: Norm) -> dict[str, NDArray[Any]]:
        """Return what an Outcome holds."""
        labels = self.samples.labels
        found: dict[str, Tensor] = {
            "index": self.samples.index,
            "labels": labels,
            "before": self.clean.argmax(1),
            "after": self.logits.argmax(1),
            "loss": functional.cross_entropy(self.logits, labels, reduction="none"),
            "distance": metrics.distances(self.samples.images, self.moved, norm),
            "broken_by": self.broken_by,
            "steps": self.steps,
            "gallery_clean": self.samples.images[:GALLERY],
            "gallery_moved": self.moved[:GALLERY],
        }
        return {name: value.numpy() for name, value in found.items()}

    def describe(self, attack_seconds: float, passes: Passes) -> dict[str, Any]:
        """Return when it was measured, and what it took."""
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "attack_seconds": round(attack_seconds, 3),
            "inference_seconds": round(self.inference_seconds, 4),
            "gradient_passes": passes.gradient,
            "forward_passes": passes.forward,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """One attack on one target, apart from the samples."""

    target: TorchTarget
    source: TorchTarget
    attack: Attack
    threat_model: ThreatModel
    seed: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Return the names of the attack's stages."""
        return tuple(stage.name for stage in self.attack.stages(self.target.classes))

    def key(self) -> dict[str, Any]:
        """Return the part of the store's key that says what is done to the samples."""
        return {
            "what": "attack",
            "attack": self.attack.describe(),
            "knowledge": self.threat_model.knowledge.value,
            "budget": {"norm": self.threat_model.norm.value, "eps": self.threat_model.eps},
            "crafted_on": [self.source.digest, self.source.bounds],
            "seed": self.seed,
        }

    def run(self, block: Samples, clean: Answered) -> Stored:
        """Run the stages on a block, each on what still stands; what was wrong before is moved by the first only.

        Args:
            block: what is attacked.
            clean: what the target says of it unmoved.
        """
        self.source.restart()
        self.target.restart()
        first = first_logits(self.target, block)  # before the attack, which may change the network
        asked, given, begun = self.source.passes.copy(), samples_digest(block), time.perf_counter()
        seen = Seen.of(block, block.images.clone(), clean, clean)
        for place, stage in enumerate(self.attack.stages(self.target.classes)):
            rows = seen.broken_by == STANDING if place else torch.ones_like(seen.broken_by, dtype=torch.bool)
            if bool(rows.any()):
                self._run_stage(place, stage, seen, torch.nonzero(rows).flatten())
        attack_seconds = time.perf_counter() - begun
        untouched = self.target.unchanged() and self.source.unchanged() and samples_digest(block) == given
        description = seen.describe(attack_seconds, self.source.passes.since(asked)) | {"untouched": untouched}
        arrays = seen.arrays(self.threat_model.norm) | {"moved": seen.moved.numpy(), "clean_logits": first}
        if self.target.draws > 1:  # what it said of them in parts, as stages left them, was of other draws
            arrays["moved_logits"] = self.target.all_logits(seen.moved).numpy()
        self.source.restart()
        self.target.restart()
        return arrays, description

    def _run_stage(self, place: int, stage: Attack, seen: Seen, rows: Tensor) -> None:
        chosen = seen.samples.at(rows)
        seed = _seed(self.seed, place, chosen)
        self.source.forget()
        with seeded(seed):
            found = stage.perturb(
                known(self.source, stage.knowledge), chosen, self.threat_model, torch.Generator().manual_seed(seed)
            )
        moved = found.images
        if moved.shape != chosen.images.shape or not bool(torch.isfinite(moved).all()):
            raise AttackError(f"{stage.describe()}: expected finite images of shape {tuple(chosen.images.shape)}")
        if stage.bounded:
            budget = self.threat_model
            moved = metrics.project(chosen.images, moved, budget.norm, budget.eps, self.target.bounds)
        moved = moved.clamp(*self.target.bounds)
        logits = self.target.all_logits(moved)
        fell = (logits.argmax(1) != chosen.labels) & (seen.broken_by[rows] == STANDING)
        kept = fell | (place == 0)  # of what nothing breaks, what the first stage made of it is judged
        seen.moved[rows[kept]], seen.logits[rows[kept]], seen.steps[rows] = moved[kept], logits[kept], found.steps
        seen.broken_by[rows[fell]] = place


def first_logits(target: TorchTarget, samples: Samples) -> NDArray[np.float32]:
    """Return what a target says of the first unchanged images, by which a stored result is held against it later."""
    found: NDArray[np.float32] = target.all_logits(samples.images[:RECHECKED]).numpy()
    return found


def samples_digest(samples: Samples) -> str:
    """Return the SHA-256 of images, labels and places."""
    digest = hashlib.sha256(samples.images.numpy().tobytes())
    digest.update(samples.labels.numpy().tobytes())
    digest.update(samples.index.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _seed(seed: int, place: int, samples: Samples) -> int:
    """Return a seed that depends on nothing but the attack's seed, the stage and the samples."""
    return int.from_bytes(hashlib.sha256(f"{seed} {place} {samples_digest(samples)}".encode()).digest()[:7], "big")
