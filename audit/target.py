"""What is attacked: the Target protocols, and the PyTorch network behind them.

The type says how much an adversary knows: ``Target`` answers with labels only, ``WhiteBoxTarget`` adds differentiable
logits. A target is frozen: eval mode, parameters without gradients.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from audit.arithmetic import Fused, has_bfloat16
from audit.artifacts.weights import load_weights
from audit.defences import Defence
from audit.errors import TargetError
from audit.identity import network_digest, parameters_digest
from audit.loading import resolve
from audit.randomness import seeded
from audit.records import Knowledge

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


class TorchTarget:
    """A PyTorch network as a white-box target.

    A network that draws at random declares it with ``draws`` > 1: its answer is then the class of the greatest mean
    probability over so many draws, and an attack sees the gradient of that mean (expectation over transformation,
    Athalye et al. 2018, arXiv:1707.07397).
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        classes: int,
        digest: str,
        bounds: tuple[float, float],
        device: torch.device,
        draws: int = 1,
    ) -> None:
        """Freeze the network on the device: eval mode, no parameter gradients, the fast memory layout."""
        self.name, self.classes, self.digest, self.bounds, self.device = name, classes, digest, bounds, device
        self.draws, self.passes = draws, Passes()
        self.exact = not has_bfloat16(device)
        self._network = network.to(device).eval().requires_grad_(False)
        if any(parameter.ndim == 4 for parameter in self._network.parameters()):
            self._network = self._network.to(memory_format=torch.channels_last)
        self._fused = Fused(self._network)
        self._frozen = parameters_digest(self._network)

    @property
    def network(self) -> nn.Module:
        """Return the frozen network."""
        return self._network

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, classes) float32 logits, or the log of mean probabilities of a randomised network.

        Raises:
            TargetError: the network returns another shape.
        """
        x = x.to(self.device)
        if self.draws == 1:
            return self._forward(x)
        shares = torch.stack([self._forward(x).log_softmax(1) for _ in range(self.draws)])
        return shares.logsumexp(0) - math.log(self.draws)  # in logarithms: nothing rounds to a flat 0 or 1

    def step_logits(self, x: Tensor) -> Tensor:
        """Return logits in bfloat16 where the CPU has it, at about half the time; else those of :meth:`logits`.

        Where no gradients are asked for, operations are fused as well.
        """
        if self.exact:
            return self.logits(x)
        if self.draws == 1 and not torch.is_grad_enabled():
            return self._answer(self._fused.logits(x.to(self.device)), len(x))
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.logits(x)

    def forget(self) -> None:
        """Forget what earlier questions left behind, so that an attack's result hangs on its inputs alone."""
        self._fused.forget()

    def all_logits(self, x: Tensor) -> Tensor:
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
            found = torch.cat([self.logits(batch).cpu() for batch in x.split(PREDICT_BATCH)])
        if bool((found.isnan() | found.isposinf()).any()):
            raise TargetError(
                f"target {self.name}: expected numbers as logits, got NaN or infinity; check that weights and network "
                "belong together, and what the network expects of its input"
            )
        return found

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N,) int64 classes."""
        return self.all_logits(x).argmax(1)

    def unchanged(self) -> bool:
        """Tell whether every parameter and buffer is what it was when the target was made."""
        return parameters_digest(self._network) == self._frozen

    def _forward(self, x: Tensor) -> Tensor:
        return self._answer(self._network(x), len(x))

    def _answer(self, found: object, count: int) -> Tensor:
        """Count what the network was asked, and return its answer as float32."""
        if not isinstance(found, Tensor) or found.shape != (count, self.classes):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise TargetError(
                f"target {self.name}: expected logits of shape ({count}, {self.classes}), got {got}; "
                "a factory returns a network that maps (N, C, H, W) to (N, classes)"
            )
        self.passes.forward += count
        self.passes.gradient += count if found.requires_grad else 0
        return found.float()


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


def build_target(
    name: str,
    factory: str,
    weights: Path | None,
    sha256: str | None,
    *,
    root: Path,
    classes: int,
    bounds: tuple[float, float],
    device: torch.device,
    draws: int = 1,
) -> TorchTarget:
    """Build a network with a factory and load verified weights into it.

    The digest covers the factory's name, the source files of every module, and every parameter and buffer: another
    architecture or other weights are another target.

    Raises:
        IntegrityError: the weight file is missing, refused, or not the pinned one.
        TargetError: the factory returns no network, or the weights do not fit it.
    """
    make = resolve(factory, f"targets.{name}.factory", root)
    try:
        network = make()
    except Exception as error:  # a factory is foreign code: whatever it raises, there is no network
        raise TargetError(f"target {name}: {factory} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise TargetError(
            f"target {name}: expected {factory} to return a torch.nn.Module, got {type(network).__name__}; "
            "a factory takes no arguments and returns the network, its weights still to be loaded"
        )
    if weights is not None:
        state = load_weights(weights, sha256)
        _check_types(name, weights.name, state, network)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:300]
            raise TargetError(
                f"target {name}: {weights.name} does not fit {factory}: {first}; "
                "the factory must build the architecture that was trained, with the same parameter names"
            ) from error
    digest = network_digest(factory, make, network, draws)
    return TorchTarget(name, network, classes=classes, digest=digest, bounds=bounds, device=device, draws=draws)


def _check_types(name: str, file: str, state: dict[str, Tensor], network: nn.Module) -> None:
    """Refuse weights that loading would round without a word, float64 into a float32 network for example.

    Raises:
        TargetError: a tensor's type does not fit into the network's.
    """
    for key, wanted in network.state_dict().items():
        given = state.get(key)
        if given is not None and torch.promote_types(given.dtype, wanted.dtype) != wanted.dtype:
            raise TargetError(
                f"target {name}: {file} has {key} in {given.dtype}, which the network would round to {wanted.dtype}; "
                "save the weights in the network's own types, so that what is audited is what was saved"
            )


def wrap_network(
    name: str,
    network: nn.Module,
    *,
    classes: int,
    bounds: tuple[float, float],
    device: torch.device,
    draws: int = 1,
    made_from: str = "",
) -> TorchTarget:
    """Return a network that is already there as a target; ``made_from`` says what else its answers depend on."""
    text = f"{made_from} {type(network).__name__} {draws} {parameters_digest(network)}"
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return TorchTarget(name, network, classes=classes, digest=digest, bounds=bounds, device=device, draws=draws)


def defend(name: str, inner: TorchTarget, defence: Defence, partner: TorchTarget | None) -> TorchTarget:
    """Put a target behind an input defence; attacks on the result go through it."""
    network = defence.wrap(inner.network, inner.bounds, partner.network if partner else None)
    parts = [defence.model_dump_json(), inner.digest, partner.digest if partner else ""]
    return wrap_network(
        name,
        network,
        classes=inner.classes,
        bounds=inner.bounds,
        device=inner.device,
        draws=max(defence.draws, inner.draws, partner.draws if partner else 1),
        made_from=" ".join(parts),
    )
