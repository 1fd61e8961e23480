"""Targets whose network is in processes of its own.

What such a process answers has the shape that was asked for, or is refused.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from audit.errors import TargetError
from audit.isolation.caller import Caller
from audit.isolation.wire import Shared
from audit.target import PREDICT_BATCH, Blueprint, TorchTarget

OTHER_BATCH = 64  # not that of an attack
ALIGNED = 64  # bytes


class Build(Protocol):
    """Has a target built in a process of its own; returns the digest that this gives it, and whom to ask."""

    def __call__(self) -> tuple[str, Caller]:
        """Have it built."""
        ...


class HostedTarget(TorchTarget):
    """A target whose network is in another process; forked processes of the audit each ask one of their own.

    Each is built from nothing: processes forked from one that has built a network might have memory in common.
    """

    def __init__(self, blueprint: Blueprint, build: Build, device: torch.device) -> None:
        """Have the target of a blueprint built.

        Raises:
            TargetError: it cannot be.
        """
        digest, caller = build()
        super().__init__(
            blueprint.name,
            classes=blueprint.classes,
            digest=digest,
            bounds=blueprint.bounds,
            device=device,
            draws=blueprint.answer_draws,
        )
        self.blueprint, self._build = blueprint, build
        self._asked: _Asked | None = _Asked(caller, self.classes, device)

    @property
    def answers_fresh(self) -> bool:
        """Tell that a network that saw nothing else can be had."""
        return True

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, classes) float32 logits."""
        return self._logits(x, steps=False)

    def step_logits(self, x: Tensor) -> Tensor:
        """Return logits in the cheapest arithmetic that steers."""
        return self._logits(x, steps=not self.exact)

    def forget(self) -> None:
        """Forget what operations were fused."""
        if self._is_asked():
            self._one().caller.ask({"what": "forget"})

    def unchanged(self) -> bool:
        """Tell whether the network that was asked is what it was."""
        return not self._is_asked() or self._one().caller.ask({"what": "unchanged"}).get("unchanged") is True

    def features(self, x: Tensor) -> Tensor:
        """Return the (N, D) float32 inputs of the network's last linear layer; its logits where it has none."""
        one = self._one()
        one.place(x, 0)
        _, found = one.caller.document({"what": "features", "shape": list(x.shape)})
        features = found.get("features", torch.empty(0))
        if features.ndim != 2 or len(features) != len(x) or features.dtype != torch.float32:
            raise TargetError(f"target {self.name}: expected ({len(x)}, D) float32 features, got another shape")
        return features

    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Return every tensor that the network can be seen to hold."""
        names, tensors = self._one().caller.document({"what": "tensors"})
        return [(str(name), tensors[str(place)]) for place, name in enumerate(names)]

    def restart(self) -> None:
        """Let the process that was asked end; who asks next has another."""
        if self.device.type != "cpu":  # it takes a second to start
            return
        if self._is_asked():
            self._one().caller.close()
        self._asked = None

    def fresh_logits(self, x: Tensor) -> tuple[Tensor, float]:
        """Return what a process says that sees nothing but these images."""
        if not len(x):
            return torch.zeros(0, self.classes), 0.0
        order, size = torch.arange(len(x)), PREDICT_BATCH
        if self.draws == 1:
            chance = torch.Generator().manual_seed(secrets.randbits(63))  # a network that counts knows no image by it
            order, size = torch.randperm(len(x), generator=chance), OTHER_BATCH
        self.restart()
        before, self._asked = self._asked, None  # one with a GPU lasts
        try:
            self._asked = self._another()
            begun = time.perf_counter()
            answers = self.all_logits(x[order], size)
            seconds = time.perf_counter() - begun
        finally:
            if self._asked is not None:
                self._asked.caller.close()
            self._asked = before
        logits = torch.empty_like(answers)
        logits[order] = answers
        return logits, seconds

    def _logits(self, x: Tensor, *, steps: bool) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            logits: Tensor = _Differentiable.apply(x, self, steps)
        else:
            logits, _ = self.question(x, steps=steps, slopes=False)
        self.passes.forward += len(x) * self.draws
        self.passes.gradient += len(x) * self.draws if logits.requires_grad else 0
        return logits

    def question(self, x: Tensor, *, steps: bool, slopes: bool) -> tuple[Tensor, _Graph | None]:
        """Ask for logits, and for what their slopes can be asked of; None where they have none."""
        return self._one().question(x, steps=steps, slopes=slopes, random=self.draws > 1)

    def _is_asked(self) -> bool:
        return self._asked is not None and self._asked.owner == os.getpid()

    def _one(self) -> _Asked:
        """Return the process that answers this one."""
        if self._asked is None or not self._is_asked():
            self._asked = self._another()
        return self._asked

    def _another(self) -> _Asked:
        digest, caller = self._build()
        if digest != self.digest:
            caller.close()
            raise TargetError(
                f"target {self.name}: another process built another network of the same factory, weights and sources; "
                "what a factory draws must come from torch's or NumPy's generators, or from the weight file"
            )
        return _Asked(caller, self.classes, self.device)


class _Asked:
    """One process that has a network, and the memory that it and this process see."""

    def __init__(self, caller: Caller, classes: int, device: torch.device) -> None:
        self.caller, self.owner = caller, os.getpid()
        self._classes, self._device = classes, device
        self._shared: Shared | None = None
        self._done: list[int] = []

    def place(self, x: Tensor, more: int) -> tuple[Shared, int]:
        """Put images where the other process sees them; returns the memory, and where it has ``more`` bytes left."""
        x = x.detach().to("cpu", torch.float32)
        end = _aligned(x.numel() * 4)
        shared = self._room(end + more)
        torch.from_numpy(shared.array(0, tuple(x.shape))).copy_(x)
        return shared, end

    def question(self, x: Tensor, *, steps: bool, slopes: bool, random: bool) -> tuple[Tensor, _Graph | None]:
        shape = (len(x), self._classes)
        size = _aligned(4 * shape[0] * shape[1])
        shared, at = self.place(x, size + _aligned(4 * x.numel()))
        seed = int(torch.randint(2**62, ()).item()) if random else None
        done, self._done = self._done, []
        said = self.caller.ask(
            {
                "what": "logits",
                "shape": list(x.shape),
                "at": at,
                "steps": steps,
                "slopes": slopes,
                "seed": seed,
                "done": done,
            }
        )
        logits = torch.from_numpy(shared.array(at, shape).copy()).to(self._device)
        graph = said.get("graph")
        return logits, _Graph(self, graph, tuple(x.shape)) if isinstance(graph, int) else None

    def slope(self, graph: int, weights: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the gradient by the images, of logits weighted so."""
        numbers = weights.detach().to("cpu", torch.float32)
        size, images = _aligned(4 * numbers.numel()), _aligned(4 * int(torch.Size(shape).numel()))
        shared, at = self._room(images + size + images), images + size
        torch.from_numpy(shared.array(images, tuple(numbers.shape))).copy_(numbers)
        self.caller.ask({"what": "slope", "graph": graph, "weights_at": images, "at": at})
        return torch.from_numpy(shared.array(at, shape).copy()).to(self._device)

    def is_done(self, graph: int) -> None:
        """Say with the next question that nobody asks for slopes of an earlier one any more."""
        self._done.append(graph)

    def _room(self, size: int) -> Shared:
        """Return memory for so many bytes."""
        if self._shared is None or self._shared.size < size:
            self._shared = Shared.make(2 * size)
            self.caller.ask({"what": "memory", "size": self._shared.size}, self._shared.descriptor)
        return self._shared


class _Graph:
    """What the other process keeps, to differentiate an answer, as long as this lives."""

    def __init__(self, asked: _Asked, number: int, shape: tuple[int, ...]) -> None:
        self._asked, self._number, self._shape = asked, number, shape

    def slope(self, weights: Tensor) -> Tensor:
        return self._asked.slope(self._number, weights, self._shape)

    def __del__(self) -> None:
        self._asked.is_done(self._number)


class _Differentiable(torch.autograd.Function):
    """Logits from another process, which can be differentiated by the images: backward asks there again."""

    @staticmethod
    def forward(context: Any, x: Tensor, target: HostedTarget, steps: bool) -> Tensor:
        logits, graph = target.question(x, steps=steps, slopes=True)
        context.graph = graph
        if graph is None:
            context.mark_non_differentiable(logits)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, weights: Tensor) -> tuple[Tensor, None, None]:
        return context.graph.slope(weights), None, None


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
