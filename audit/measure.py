"""The only place where an attack meets a target: seeds, budget, projection, re-prediction, counting.

Nothing an attack says about itself is believed. What it returns is projected to the eps-ball and the pixel box, shown
to the target again in a fresh forward pass, and counted over all n samples; samples that were wrong before the attack
count as broken. Attacks go block by block: each block is kept as soon as it is done, so that a run that was killed goes
on with the next, and after each block one may stop.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
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
from audit.outcome import STANDING, WRONG_BEFORE, Outcome, joined
from audit.poisoning.triggers import Trigger
from audit.randomness import seeded
from audit.records import Knowledge, Norm, ThreatModel
from audit.store import Store
from audit.target import PREDICT_BATCH, Passes, TorchTarget, known
from audit.workers import Workers

BLOCK, GPU_BLOCK = 100, 500  # samples of an iterated attack between two looks; a killed run loses one block at most
ONE_STEP_BLOCK = 1000
GALLERY = 8  # images kept for the report
RECHECKED = 50  # answers asked for again before a stored result is believed
SAME = 1e-4  # by which logits may differ then, as a share of the greatest: batches of another size round otherwise
LIBRARIES = ("torch", "torchvision", "numpy", "adversarial-robustness-toolbox", "pillow")  # that results depend on
Tick = Callable[[int, int], None]
Stop = Callable[[int, int], bool]
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
        """Ask a target."""
        begun = time.perf_counter()
        logits = target.all_logits(images)
        return cls(logits, time.perf_counter() - begun)


@dataclass(frozen=True, slots=True)
class Laboratory:
    """What every measurement needs besides its subject: the data's digest, the store, where to show progress, workers.

    ``run`` marks what this run measured itself, in whatever process; the rest is from the store.
    """

    data_digest: str
    store: Store
    tick: Tick
    workers: Workers = field(default_factory=Workers)
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    _clean: dict[tuple[str, tuple[float, float], str], Answered] = field(default_factory=dict)

    def clean(self, target: TorchTarget, samples: Samples) -> Outcome:
        """Show unchanged images to a target."""
        return self._shown(target, samples, {"what": "clean"}, lambda: samples.images)

    def clean_logits(self, target: TorchTarget, samples: Samples) -> Tensor:
        """Return (N, classes) logits of unchanged images; the target is asked once for each batch of them."""
        return self._answered(target, samples).logits

    def _answered(self, target: TorchTarget, samples: Samples) -> Answered:
        if target.draws > 1:  # what it draws depends on how many images it is shown at once
            return Answered.by(target, samples.images)
        found = []
        for batch in samples.images.split(PREDICT_BATCH):
            key = (target.digest, target.bounds, hashlib.sha256(batch.numpy().tobytes()).hexdigest())
            if key not in self._clean:
                self._clean[key] = Answered.by(target, batch)
            found.append(self._clean[key])
        return Answered(torch.cat([one.logits for one in found]), sum(one.seconds for one in found))

    def triggered(self, target: TorchTarget, samples: Samples, trigger: Trigger, placebo: int | None = None) -> Outcome:
        """Stamp a trigger, or one of its placebos, on every image."""
        settings = {"what": "trigger", "trigger": trigger.model_dump(mode="json"), "placebo": placebo}
        return self._shown(target, samples, settings, lambda: trigger.stamp(samples.images, target.bounds, placebo))

    def carriers(self, target: TorchTarget, samples: Samples, attack: Attack, eps: float, seed: int) -> Tensor:
        """Return images moved as far from their class as the attack gets them, misleading or not."""
        budget = ThreatModel(goal="any wrong class", knowledge=Knowledge.TRANSFER, eps=eps)
        with seeded(seed):
            found = attack.perturb(
                known(target, Knowledge.WHITE_BOX), samples, budget, torch.Generator().manual_seed(seed)
            )
        return metrics.project(samples.images, found.images, budget.norm, eps, target.bounds)

    def attacked(
        self,
        target: TorchTarget,
        samples: Samples,
        attack: Attack,
        threat_model: ThreatModel,
        seed: int,
        *,
        crafted_on: TorchTarget | None = None,
        stop: Stop | None = None,
    ) -> Outcome:
        """Attack a target.

        Args:
            target: what is judged.
            samples: in the order in which they are to be attacked.
            attack: its stages run one after the other, each on the samples still standing.
            threat_model: norm and eps of the budget.
            seed: of the attack; every block and stage draws from a generator of its own.
            crafted_on: the target whose gradients are used; another one makes it a transfer attack.
            stop: told (standing, n) after each block, whether to leave it at that.
        """
        trial = _Trial(target, crafted_on or target, attack, threat_model, seed)
        size = ONE_STEP_BLOCK if not attack.iterated else BLOCK if target.device.type == "cpu" else GPU_BLOCK
        blocks = [samples.at(slice(start, start + size)) for start in range(0, len(samples), size)]
        at_once = len(blocks) if stop is None else self.workers.count  # blocks after the last one needed are wasted
        found: list[Outcome] = []
        for place, block in enumerate(blocks):
            if place % at_once == 0:
                self._attack_side_by_side(trial, blocks[place : place + at_once], place * size, len(samples))
            found.append(self._attack(trial, block))
            done = place * size + len(block)
            if not found[-1].from_store:
                self.tick(done, len(samples))
            if stop is not None and stop(sum(int(one.standing.sum()) for one in found), done):
                break
        return joined(found)

    def _attack(self, trial: _Trial, block: Samples) -> Outcome:
        key = trial.key() | self._key(trial.target, block)
        return self._stored(
            key, trial.target, block, trial.stages, lambda: trial.run(block, self._answered(trial.target, block))
        )

    def _attack_side_by_side(self, trial: _Trial, blocks: Sequence[Samples], before: int, total: int) -> None:
        """Leave the results of blocks in the store, so that asking for them one by one takes no time."""
        missing = [block for block in blocks if not self.store.has(trial.key() | self._key(trial.target, block))]
        for block in missing:
            self._answered(trial.target, block)  # once, not once in each process
        size = len(missing[0]) if missing else 0
        self.workers.side_by_side(
            [partial(self._attack, trial, block) for block in missing],
            lambda done: self.tick(min(before + done * size, total), total),
        )

    def kept(
        self,
        settings: Mapping[str, Any],
        source: str,
        target: TorchTarget,
        samples: Samples,
        compute: Callable[[], Stored],
    ) -> Stored:
        """Return arrays and a description computed once for the same inputs and ``source``, the file of the code.

        They are computed now where nothing is stored, or the target no longer answers as it did then; where another
        process computes them just now, that is waited for.
        """
        code = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        key = {**settings, "computed by": code, **self._key(target, samples)}
        with self.store.computing(key):
            if (stored := self.store.get(key)) is not None and _answers_as_then(stored[0], target, samples):
                return stored
            arrays, description = compute()
            arrays["clean_logits"] = target.all_logits(samples.images[:RECHECKED]).numpy()
            self.store.put(key, arrays, description)
        return arrays, description

    def _shown(
        self, target: TorchTarget, samples: Samples, settings: Mapping[str, Any], move: Callable[[], Tensor]
    ) -> Outcome:
        def show() -> Stored:
            moved, clean = move(), self._answered(target, samples)
            after = clean if moved is samples.images else Answered.by(target, moved)
            seen = _Seen.of(samples, moved, clean, after)
            return seen.arrays(Norm.LINF), seen.describe(0.0, Passes())

        return self._stored({**settings, **self._key(target, samples)}, target, samples, (), show)

    def _stored(
        self,
        key: Mapping[str, Any],
        target: TorchTarget,
        samples: Samples,
        stages: tuple[str, ...],
        measure: Callable[[], Stored],
    ) -> Outcome:
        stored = self.store.get(key)
        if stored is not None:
            arrays, description = stored
            ours = description.pop("run", None) == self.run
            if ours or _still_holds(arrays, target, samples):
                return Outcome(arrays, description, from_store=not ours, stages=stages)
        arrays, description = measure()
        self.store.put(key, arrays, {**description, "run": self.run})
        return Outcome(arrays, description, from_store=False, stages=stages)

    def _key(self, target: TorchTarget, samples: Samples) -> dict[str, Any]:
        return {
            "target": target.digest,
            "bounds": target.bounds,
            "data": self.data_digest,
            "samples": samples_digest(samples),
            "code": _code_digest(),
            "versions": _versions(),
            "device": target.device.type,
            "dtype": "float32" if target.exact else "float32, steps in bfloat16",
        }


@dataclass(slots=True)
class _Seen:
    """What a target says about the images of a block, moved so far."""

    samples: Samples
    moved: Tensor
    clean: Tensor
    logits: Tensor
    broken_by: Tensor
    steps: Tensor
    inference_seconds: float

    @classmethod
    def of(cls, samples: Samples, moved: Tensor, clean: Answered, after: Answered) -> _Seen:
        """Begin with what the target says of the unmoved images, and of the moved ones."""
        broken_by = torch.where(clean.logits.argmax(1) == samples.labels, STANDING, WRONG_BEFORE)
        steps = torch.zeros_like(broken_by)
        return cls(samples, moved, clean.logits, after.logits.clone(), broken_by, steps, after.seconds)

    def arrays(self, norm: Norm) -> dict[str, NDArray[Any]]:
        labels = self.samples.labels
        found = {
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
            "clean_logits": self.clean[:RECHECKED],
        }
        return {name: value.numpy() for name, value in found.items()}

    def describe(self, attack_seconds: float, passes: Passes) -> dict[str, Any]:
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "attack_seconds": round(attack_seconds, 3),
            "inference_seconds": round(self.inference_seconds, 4),
            "gradient_passes": passes.gradient,
            "forward_passes": passes.forward,
        }


@dataclass(frozen=True, slots=True)
class _Trial:
    """One attack on one target, apart from the samples."""

    target: TorchTarget
    source: TorchTarget
    attack: Attack
    threat_model: ThreatModel
    seed: int

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.attack.stages(self.target.classes))

    def key(self) -> dict[str, Any]:
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
        asked, begun = self.source.passes.copy(), time.perf_counter()
        seen = _Seen.of(block, block.images.clone(), clean, clean)
        for place, stage in enumerate(self.attack.stages(self.target.classes)):
            rows = seen.broken_by == STANDING if place else torch.ones_like(seen.broken_by, dtype=torch.bool)
            if bool(rows.any()):
                self._run_stage(place, stage, seen, torch.nonzero(rows).flatten())
        attack_seconds = time.perf_counter() - begun
        untouched = self.target.unchanged() and self.source.unchanged()
        description = seen.describe(attack_seconds, self.source.passes.since(asked)) | {"untouched": untouched}
        return seen.arrays(self.threat_model.norm), description

    def _run_stage(self, place: int, stage: Attack, seen: _Seen, rows: Tensor) -> None:
        chosen = seen.samples.at(rows)
        seed = _seed(self.seed, place, chosen)
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
        seen.moved[rows], seen.logits[rows], seen.steps[rows] = moved, logits, found.steps
        seen.broken_by[rows[fell]] = place


def _still_holds(arrays: Mapping[str, NDArray[Any]], target: TorchTarget, samples: Samples) -> bool:
    """Tell whether a stored result is of these samples, and the target still answers the first of them as it did."""
    if not np.array_equal(arrays["labels"], samples.labels.numpy()):
        return False
    if len(arrays["before"]) != len(samples) or len(arrays["after"]) != len(samples):
        return False
    return _answers_as_then(arrays, target, samples)


def _answers_as_then(arrays: Mapping[str, NDArray[Any]], target: TorchTarget, samples: Samples) -> bool:
    """Tell whether the target still gives the first samples the logits that it gave them then."""
    if target.draws > 1:  # what it draws depends on how many images it is shown at once
        return True
    now, then = target.all_logits(samples.images[:RECHECKED]).numpy(), arrays["clean_logits"]
    finite = np.isfinite(then)
    if now.shape != then.shape or not np.array_equal(finite, np.isfinite(now)):
        return False
    return bool(np.abs(now - then)[finite].max(initial=0.0) <= SAME * max(1.0, np.abs(then)[finite].max(initial=0.0)))


def samples_digest(samples: Samples) -> str:
    """Return the SHA-256 of images, labels and places."""
    digest = hashlib.sha256(samples.images.numpy().tobytes())
    digest.update(samples.labels.numpy().tobytes())
    digest.update(samples.index.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _seed(seed: int, place: int, samples: Samples) -> int:
    """Return a seed that depends on nothing but the attack's seed, the stage and the samples."""
    return int.from_bytes(hashlib.sha256(f"{seed} {place} {samples_digest(samples)}".encode()).digest()[:7], "big")


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


@cache
def _code_digest() -> str:
    """Return the SHA-256 of the sources that decide a per-sample result."""
    digest = hashlib.sha256()
    for source in _sources():
        digest.update(source.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _sources() -> Iterator[Path]:
    here = Path(__file__).parent
    names = ["measure", "metrics", "target", "identity", "randomness", "loading", "defences", "builtin"]
    yield from (here / f"{name}.py" for name in names)
    yield here / "poisoning" / "triggers.py"
    yield from sorted((here / "attacks").glob("*.py"))
