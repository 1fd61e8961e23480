"""The only place where an attack meets a target: seeds, budget, projection, re-prediction, counting.

Nothing an attack says about itself is believed. What it returns is projected to the eps-ball and the pixel box, shown
to the target again in a fresh forward pass, and counted over all n samples; samples that were wrong before the attack
count as broken.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
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
from audit.records import Bound, Measurement, Metric, Norm, ThreatModel, Trigger
from audit.store import Store
from audit.target import TorchTarget

BLOCK = 500  # samples attacked between two progress ticks
GALLERY = 8  # images kept for the report
RECHECKED = 200  # predictions made again before a stored result is believed
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Per-sample results of showing images to a target, with what is needed to draw them.

    ``arrays`` holds, over n samples: ``labels``, ``before`` and ``after`` (int64 classes without and with the
    perturbation), ``loss`` (float32 cross-entropy after), ``distance`` (float32); and over the first few samples
    ``gallery_clean`` and ``gallery_moved`` (float32 images).
    """

    arrays: dict[str, NDArray[Any]]
    description: dict[str, Any]
    from_store: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """True classes (n,)."""
        return self.arrays["labels"]

    @property
    def before(self) -> NDArray[np.int64]:
        """Classes predicted without the perturbation (n,)."""
        return self.arrays["before"]

    @property
    def after(self) -> NDArray[np.int64]:
        """Classes predicted with the perturbation (n,)."""
        return self.arrays["after"]

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Which samples are right both without and with the perturbation (n,)."""
        right: NDArray[np.bool_] = (self.before == self.labels) & (self.after == self.labels)
        return right


@dataclass(frozen=True, slots=True)
class Laboratory:
    """What every measurement needs besides its subject: the data's digest, the store, and where to show progress."""

    data_digest: str
    store: Store
    tick: Tick

    def clean(self, target: TorchTarget, samples: Samples) -> Outcome:
        """Show unchanged images to a target."""
        return self._observe(target, samples, {"what": "clean"}, lambda: samples.images)

    def attacked(
        self,
        target: TorchTarget,
        samples: Samples,
        attack: Attack,
        threat_model: ThreatModel,
        seed: int,
        crafted_on: TorchTarget | None = None,
    ) -> Outcome:
        """Attack a target through its own gradients, or through those of ``crafted_on`` (a transfer attack)."""
        source = crafted_on or target
        settings = {
            "what": "attack",
            "attack": attack.model_dump(mode="json"),
            "budget": {"norm": threat_model.norm.value, "eps": threat_model.eps},
            "crafted_on": [source.digest, source.bounds],
            "seed": seed,
        }
        return self._observe(
            target, samples, settings, lambda: self._perturb(source, samples, attack, threat_model, seed), threat_model
        )

    def triggered(self, target: TorchTarget, samples: Samples, trigger: Trigger) -> Outcome:
        """Stamp a trigger on every image whose true class is not the trigger's target class."""
        others = samples.where(samples.labels != trigger.target_class)
        settings = {"what": "trigger", "trigger": trigger.model_dump(mode="json")}
        return self._observe(target, others, settings, lambda: stamp(others.images, trigger))

    def _observe(
        self,
        target: TorchTarget,
        samples: Samples,
        settings: Mapping[str, Any],
        move: Callable[[], Tensor],
        threat_model: ThreatModel | None = None,
    ) -> Outcome:
        key = {
            **settings,
            "target": target.digest,
            "bounds": target.bounds,
            "data": self.data_digest,
            "samples": _digest(samples),
            "code": _code_digest(),
            "versions": {name: version(name) for name in ("torch", "numpy", "adversarial-robustness-toolbox")},
            "device": target.device.type,
        }
        stored = self.store.get(key)
        if stored is not None and _still_holds(stored[0], target, samples):
            return Outcome(stored[0], stored[1], from_store=True)
        begun = time.perf_counter()
        moved = move()
        attack_seconds = time.perf_counter() - begun
        if moved.shape != samples.images.shape or not bool(torch.isfinite(moved).all()):
            raise AttackError(f"{settings}: expected finite images of shape {tuple(samples.images.shape)}")
        norm = threat_model.norm if threat_model else Norm.LINF
        if threat_model:
            moved = metrics.project(samples.images, moved, norm, threat_model.eps, target.bounds)
        arrays, inference_seconds = _arrays(target, samples, moved, norm)
        description = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "attack_seconds": round(attack_seconds, 3),
            "inference_seconds": round(inference_seconds, 4),
        }
        self.store.put(key, arrays, description)
        return Outcome(arrays, description, from_store=False)

    def _perturb(
        self, source: TorchTarget, samples: Samples, attack: Attack, threat_model: ThreatModel, seed: int
    ) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        moved = []
        for start in range(0, len(samples), BLOCK):
            block = Samples(samples.images[start : start + BLOCK], samples.labels[start : start + BLOCK])
            moved.append(attack.perturb(source, block, threat_model, generator))
            self.tick(start + len(block), len(samples))
        return torch.cat(moved)


def stamp(images: Tensor, trigger: Trigger) -> Tensor:
    """Return a copy of (N, C, H, W) images with the trigger's square in the bottom right corner."""
    stamped = images.clone()
    stamped[..., -trigger.size :, -trigger.size :] = trigger.value
    return stamped


def accuracy(outcome: Outcome, bound: Bound, **settings: Any) -> Measurement:
    """Return clean accuracy: the share of samples classified correctly."""
    right = outcome.after == outcome.labels
    return _proportion(Metric.CLEAN_ACCURACY, int(right.sum()), outcome, bound, settings)


def robust_accuracy(outcome: Outcome, bound: Bound, seed: int, **settings: Any) -> Measurement:
    """Return the share of samples that are right before and after the attack; ``raw_value`` ignores before."""
    raw = float((outcome.after == outcome.labels).mean())
    counted = _proportion(Metric.ROBUST_ACCURACY, int(outcome.standing.sum()), outcome, bound, settings)
    return counted.model_copy(update={"raw_value": raw, "seed": seed})


def attack_success_rate(outcome: Outcome, bound: Bound, trigger: Trigger) -> Measurement:
    """Return the share of images of other classes that the trigger turns into the target class (Gu et al. 2017)."""
    hit = int((outcome.after == trigger.target_class).sum())
    raw = float((outcome.before == trigger.target_class).mean())
    settings = {"trigger": trigger.model_dump(mode="json"), "predicted_target_without_trigger": raw}
    return _proportion(Metric.ATTACK_SUCCESS_RATE, hit, outcome, bound, settings)


def _proportion(
    metric: Metric, successes: int, outcome: Outcome, bound: Bound, settings: Mapping[str, Any]
) -> Measurement:
    n = len(outcome.labels)
    low, high = metrics.proportion_interval(successes, n, bound.confidence)
    return Measurement(
        metric=metric,
        value=successes / n,
        low=low,
        high=high,
        n=n,
        settings=dict(settings),
        seconds=outcome.description["attack_seconds"] + outcome.description["inference_seconds"],
        measured_at=outcome.description["measured_at"],
        from_store=outcome.from_store,
    )


def _arrays(target: TorchTarget, samples: Samples, moved: Tensor, norm: Norm) -> tuple[dict[str, NDArray[Any]], float]:
    before = target.predict(samples.images)
    begun = time.perf_counter()
    logits = target.all_logits(moved)
    seconds = time.perf_counter() - begun
    arrays = {
        "labels": samples.labels,
        "before": before,
        "after": logits.argmax(1),
        "loss": functional.cross_entropy(logits, samples.labels, reduction="none"),
        "distance": metrics.distances(samples.images, moved, norm),
        "gallery_clean": samples.images[:GALLERY],
        "gallery_moved": moved[:GALLERY],
    }
    return {name: value.numpy() for name, value in arrays.items()}, seconds


def _still_holds(arrays: Mapping[str, NDArray[Any]], target: TorchTarget, samples: Samples) -> bool:
    """Tell whether a stored result is of these samples, and the target still answers the first of them as it did."""
    few = samples.images[:RECHECKED]
    return (
        np.array_equal(arrays["labels"], samples.labels.numpy())
        and len(arrays["before"]) == len(arrays["after"]) == len(samples)
        and np.array_equal(arrays["before"][:RECHECKED], target.predict(few).numpy())
    )


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256(samples.images.numpy().tobytes())
    digest.update(samples.labels.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


@cache
def _code_digest() -> str:
    """Return the SHA-256 of the sources that decide a per-sample result."""
    here = Path(__file__).parent
    sources = [here / "measure.py", here / "metrics.py", here / "target.py", *sorted((here / "attacks").glob("*.py"))]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return f"sha256:{digest.hexdigest()}"
