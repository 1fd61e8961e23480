"""What is attacked: the Target protocols, and the PyTorch network behind them.

The type says how much an adversary knows: ``Target`` answers with labels only, ``WhiteBoxTarget`` adds differentiable
logits. A target is frozen: eval mode, parameters without gradients.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from audit.arithmetic import has_bfloat16
from audit.defences import AnyDefence
from audit.errors import TargetError
from audit.randomness import seeded
from audit.records import Knowledge, Record

PREDICT_BATCH = 100
JUDGING_SEED = 20_000  # a randomised target is judged over these draws and no others


class Target(Protocol):
    """Something that predicts; ``draws`` > 1 says that it does so at random."""

    name: str
    bounds: tuple[float, float]
    classes: int
    digest: str
    device: torch.device
    draws: int

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N,) int64 classes of (N, C, H, W) float32 images in bounds."""
        ...


class ScoreTarget(Target, Protocol):
    """A target that also tells its logits.

    ``exact`` says whether :meth:`step_logits` are float32; where they are not, whoever relies on them asks again.
    """

    exact: bool

    def logits(self, x: Tensor) -> Tensor:
        """Return the (N, classes) float32 logits."""
        ...

    def step_logits(self, x: Tensor) -> Tensor:
        """Return the (N, classes) logits in the cheapest arithmetic that steers a search well."""
        ...


class WhiteBoxTarget(ScoreTarget, Protocol):
    """A target whose logits can be differentiated by the pixels; the methods are those of ScoreTarget."""


@dataclass(slots=True)
class Passes:
    """What a target was asked: images sent forward, and how many of them were differentiated."""

    forward: int = 0
    gradient: int = 0

    def copy(self) -> Passes:
        """Return the counts as they are now."""
        return replace(self)

    def since(self, before: Passes) -> Passes:
        """Return what was added after ``before``."""
        return Passes(self.forward - before.forward, self.gradient - before.gradient)


class Blueprint(Record):
    """A target as plain data, by which another process builds the same one: a factory's network, or a defended one."""

    name: str
    root: Path
    classes: int
    bounds: tuple[float, float]
    factory: str = ""
    weights: Path | None = None
    sha256: str | None = None
    draws: int = 1
    defence: AnyDefence | None = None
    inner: Blueprint | None = None
    partner: Blueprint | None = None

    @property
    def answer_draws(self) -> int:
        """Return over how many draws the target answers."""
        behind = [one.answer_draws for one in (self.inner, self.partner) if one is not None]
        return max(self.draws, self.defence.draws if self.defence is not None else 1, *behind, 1)


class TorchTarget(ABC):
    """A PyTorch network as a white-box target; a :class:`LocalTarget` has it here, others ask it elsewhere.

    A network that draws at random declares it with ``draws`` > 1: its answer is then the class of the greatest mean
    probability over so many draws, and an attack sees the gradient of that mean (expectation over transformation,
    Athalye et al. 2018, arXiv:1707.07397).
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        digest: str,
        bounds: tuple[float, float],
        device: torch.device,
        draws: int = 1,
    ) -> None:
        """Know what the target is, and that nobody has asked it anything."""
        self.name, self.classes, self.digest, self.bounds, self.device = name, classes, digest, bounds, device
        self.draws, self.passes = draws, Passes()
        self.blueprint: Blueprint | None = None  # None for networks of the audit's own
        self.exact = not has_bfloat16(device)

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return (N, classes) float32 logits, or the log of mean probabilities of a randomised network.

        Raises:
            TargetError: the network returns another shape.
        """

    @abstractmethod
    def step_logits(self, x: Tensor) -> Tensor:
        """Return logits in bfloat16 where the CPU has it, at about half the time; else those of :meth:`logits`.

        Where no gradients are asked for, operations are fused as well.
        """

    @abstractmethod
    def forget(self) -> None:
        """Forget what earlier questions left behind, so that an attack's result hangs on its inputs alone."""

    @abstractmethod
    def unchanged(self) -> bool:
        """Tell whether every parameter and buffer is what it was when the target was made."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return the (N, D) float32 inputs of the network's last linear layer; its logits where it has none."""

    @abstractmethod
    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Return every tensor that the network can be seen to hold, with the way that leads to it."""

    def restart(self) -> None:  # noqa: B027  # a network in this process stays the one it is
        """Have whatever asks next be answered by a network that nobody has asked yet, where that is possible."""

    def fresh_logits(self, x: Tensor) -> tuple[Tensor, float]:
        """Return the logits of any number of images, on the CPU, as a network has them that saw nothing else.

        In another order and in batches of another size, where the network does not draw at random. Where there is no
        such network, this one answers.

        Returns:
            (N, classes) float32 logits, and how many seconds they took.
        """
        begun = time.perf_counter()
        return self.all_logits(x), time.perf_counter() - begun

    @property
    def answers_fresh(self) -> bool:
        """Tell whether :meth:`fresh_logits` come from a network that saw nothing else."""
        return False

    def all_logits(self, x: Tensor, batch_size: int = PREDICT_BATCH) -> Tensor:
        """Return the logits of any number of images, in batches, without gradients, on the CPU.

        Raises:
            TargetError: pixels outside the bounds.
        """
        low, high = torch.tensor(self.bounds, dtype=torch.float32).tolist()  # as float32 pixels are rounded
        if len(x) and (float(x.min()) < low or float(x.max()) > high):
            raise TargetError(
                f"target {self.name}: expected pixels in [{low:g}, {high:g}], got [{x.min():g}, {x.max():g}]; "
                "scale the images, or state the range they have as the target's bounds"
            )
        if not len(x):
            return torch.zeros(0, self.classes)
        with torch.no_grad(), seeded(JUDGING_SEED) if self.draws > 1 else nullcontext():
            found = torch.cat([self.logits(batch).cpu() for batch in x.split(batch_size)])
        if bool((found.isnan() | found.isposinf()).any()):
            raise TargetError(
                f"target {self.name}: expected numbers as logits, got NaN or infinity; check that weights and network "
                "belong together, and what the network expects of its input"
            )
        return found

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N,) int64 classes."""
        return self.all_logits(x).argmax(1)


class _Seen:
    """The part of a target that an attack may know."""

    def __init__(self, target: TorchTarget) -> None:
        self.name, self.bounds, self.classes, self.digest = target.name, target.bounds, target.classes, target.digest
        self.device, self.exact, self.draws = target.device, target.exact, target.draws
        self._target = target

    def predict(self, x: Tensor) -> Tensor:
        return self._target.predict(x)


class _Scores(_Seen):
    def logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self._target.logits(x)

    def step_logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self._target.step_logits(x)


def known(target: TorchTarget, knowledge: Knowledge) -> Target:
    """Return what an adversary of this knowledge sees of a target: everything, scores without gradients, or labels."""
    if knowledge is Knowledge.BLACK_BOX_LABEL:
        return _Seen(target)
    return _Scores(target) if knowledge is Knowledge.BLACK_BOX_SCORE else target
