"""The laboratory: what a target says and what an attack on it comes to, measured once and kept in the store.

Attacks go block by block, several side by side: each block is kept as soon as it is done, so that a run that was killed
goes on with the next, and after each block one may stop.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit import metrics
from audit.attacks import Attack
from audit.loading import Samples
from audit.outcome import Outcome, joined
from audit.poisoning.triggers import Trigger
from audit.randomness import seeded
from audit.records import Knowledge, Norm, ThreatModel
from audit.recount import SAME, disagreeing, recounted
from audit.store import Store
from audit.target import PREDICT_BATCH, Passes, TorchTarget, known
from audit.trial import Answered, Seen, Stored, Trial, first_logits, samples_digest
from audit.workers import Workers

BLOCK, GPU_BLOCK = 100, 500  # samples of an iterated attack between two looks; a killed run loses one block at most
ONE_STEP_BLOCK = 1000
LIBRARIES = ("torch", "torchvision", "numpy", "adversarial-robustness-toolbox", "pillow")  # that results depend on
Tick = Callable[[int, int], None]
Stop = Callable[[int, int], bool]


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
    _known: dict[tuple[int, str], tuple[TorchTarget, Answered]] = field(default_factory=dict)

    def clean(self, target: TorchTarget, samples: Samples) -> Outcome:
        """Show unchanged images to a target."""
        return self._shown(target, samples, samples.images)

    def clean_logits(self, target: TorchTarget, samples: Samples) -> Tensor:
        """Return (N, classes) logits of unchanged images; the target is asked once for each batch of them."""
        return self._answered(target, samples.images).logits

    def triggered(self, target: TorchTarget, samples: Samples, trigger: Trigger, placebo: int | None = None) -> Outcome:
        """Stamp a trigger, or one of its placebos, on every image."""
        return self._shown(target, samples, trigger.stamp(samples.images, target.bounds, placebo))

    def _shown(self, target: TorchTarget, samples: Samples, moved: Tensor) -> Outcome:
        clean, after = self._answered(target, samples.images), self._answered(target, moved)
        seen = Seen.of(samples, moved, clean, after)
        return Outcome(seen.arrays(Norm.LINF), seen.describe(0.0, Passes()), from_store=False)

    def _answered(self, target: TorchTarget, images: Tensor) -> Answered:
        """Ask a target what it has not been asked yet in this run, by a network that sees nothing else if possible."""
        if target.draws > 1:  # what it draws depends on how many images it is shown at once
            return Answered.by(target, images)
        batches = images.split(PREDICT_BATCH)
        # by the target itself, not by its digest: whether that tells targets apart is checked with the answers
        keys = [(id(target), hashlib.sha256(batch.numpy().tobytes()).hexdigest()) for batch in batches]
        missing = {key: batch for key, batch in zip(keys, batches, strict=True) if key not in self._known}
        if missing:
            answered = Answered.by(target, torch.cat(list(missing.values())))
            parts = answered.logits.split([len(batch) for batch in missing.values()])
            for key, part in zip(missing, parts, strict=True):
                self._known[key] = target, Answered(part, answered.seconds * len(part) / max(1, len(answered.logits)))
        found = [self._known[key][1] for key in keys]
        return Answered(torch.cat([one.logits for one in found]), sum(one.seconds for one in found))

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
        trial = Trial(target, crafted_on or target, attack, threat_model, seed)
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
        judged = self._judged(target, samples, joined(found))
        stale = [block for block, one in zip(blocks, found, strict=False) if one.from_store]
        if not disagreeing(judged) or not stale:
            return judged
        for block in stale:  # of another network than this one, whatever the digests say: measured again
            self.store.forget(trial.key() | self._key(target, block))
        return self.attacked(target, samples, attack, threat_model, seed, crafted_on=crafted_on, stop=stop)

    def _judged(self, target: TorchTarget, samples: Samples, outcome: Outcome) -> Outcome:
        """Return the outcome as a process has it that sees nothing but the images that the attack left."""
        if not target.answers_fresh:
            return outcome
        clean = self._answered(target, samples.images[: len(outcome)]).logits.numpy()
        moved = torch.from_numpy(outcome.arrays["moved"])
        return recounted(outcome, clean, self._answered(target, moved).logits.numpy(), comparable=target.draws == 1)

    def _attack(self, trial: Trial, block: Samples) -> Outcome:
        key = trial.key() | self._key(trial.target, block)
        return self._stored(
            key, trial.target, block, trial.stages, lambda: trial.run(block, self._answered(trial.target, block.images))
        )

    def _attack_side_by_side(self, trial: Trial, blocks: Sequence[Samples], before: int, total: int) -> None:
        """Leave the results of blocks in the store, so that asking for them one by one takes no time."""
        missing = [block for block in blocks if not self.store.has(trial.key() | self._key(trial.target, block))]
        for block in missing:
            self._answered(trial.target, block.images)  # once, not once in each process
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
            arrays["clean_logits"] = first_logits(target, samples)
            self.store.put(key, arrays, description)
        return arrays, description

    def _stored(
        self,
        key: Mapping[str, Any],
        target: TorchTarget,
        samples: Samples,
        stages: tuple[str, ...],
        measure: Callable[[], Stored],
    ) -> Outcome:
        def known() -> Outcome | None:
            if (stored := self.store.get(key)) is None or not _still_holds(stored[0], target, samples):
                return None
            ours = stored[1].pop("run", None) == self.run
            return Outcome(*stored, from_store=not ours, stages=stages)

        if (found := known()) is not None:
            return found
        with self.store.computing(key):
            if (found := known()) is not None:  # from whoever computed it meanwhile
                return found
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


def _still_holds(arrays: Mapping[str, NDArray[Any]], target: TorchTarget, samples: Samples) -> bool:
    """Tell whether a stored result is of these samples, and the target still answers the first of them as it did."""
    if not np.array_equal(arrays["labels"], samples.labels.numpy()):
        return False
    if len(arrays["before"]) != len(samples) or len(arrays["after"]) != len(samples):
        return False
    if target.draws > 1:  # whoever judges the images asks about all blocks at once, so for other draws
        moved = target.all_logits(torch.from_numpy(arrays["moved"])).numpy()
        if not _alike(moved, arrays["moved_logits"]):
            return False
    return _answers_as_then(arrays, target, samples)


def _answers_as_then(arrays: Mapping[str, NDArray[Any]], target: TorchTarget, samples: Samples) -> bool:
    """Tell whether the target still gives the first samples the logits that it gave them then."""
    return _alike(first_logits(target, samples), arrays["clean_logits"])


def _alike(now: NDArray[np.float32], then: NDArray[np.float32]) -> bool:
    """Tell whether logits differ by no more than rounding explains."""
    finite = np.isfinite(then)
    if now.shape != then.shape or not np.array_equal(finite, np.isfinite(now)):
        return False
    return bool(np.abs(now - then)[finite].max(initial=0.0) <= SAME * max(1.0, np.abs(then)[finite].max(initial=0.0)))


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
    names = "measure trial metrics target local building arithmetic identity randomness loading defences builtin"
    yield from (here / f"{name}.py" for name in names.split())
    yield from (here / "isolation" / f"{name}.py" for name in ("hosted", "serve"))
    yield here / "poisoning" / "triggers.py"
    yield from sorted((here / "attacks").glob("*.py"))
