"""The training loop: plain and adversarial, resumable after every epoch.

Data stay in memory as tensors, the network runs in channels_last and, where the hardware has it, under bfloat16
autocast; the weights are float32. All randomness comes from one generator whose state is part of the checkpoint, so a
run that was stopped and resumed gives the weights of a run that was not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_under_test.data import Dataset, Split
from model_under_test.network import DigitCNN
from model_under_test.progress import Progress
from model_under_test.recipes import Adversary, Recipe

EVALUATION_BATCH = 250


@dataclass(slots=True)
class Checkpoint:
    """Where a run stands after ``epoch`` epochs: tensors by name, and the figures of each epoch."""

    epoch: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def device_for(name: str = "auto") -> torch.device:
    """Return the named device; ``auto`` takes CUDA, then MPS, then the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 arithmetic is native here; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def fit(
    recipe: Recipe,
    dataset: Dataset,
    device: torch.device,
    start: Checkpoint,
    save: Callable[[Checkpoint], None],
) -> Checkpoint:
    """Train a network, calling ``save`` after every epoch.

    Args:
        recipe: what to do.
        dataset: only its training and validation splits are read.
        device: where to compute.
        start: a fresh or saved checkpoint; the run goes on from it.
        save: receives the state after each epoch.

    Returns:
        The last checkpoint; entries ``model.*`` of its tensors are the weights.
    """
    run = _Run(recipe, dataset.training, device, start)
    steps = math.ceil(len(dataset.training) / recipe.batch_size)
    label = f"{recipe.name} on {recipe.dataset} ({device.type})"
    state = start
    with Progress(label, recipe.epochs * steps, start.epoch * steps) as progress:
        for epoch in range(start.epoch, recipe.epochs):
            loss = run.epoch(epoch, progress)
            figures = {"epoch": float(epoch + 1), "training_loss": round(loss, 6)}
            figures["validation_accuracy"] = accuracy(run.network, dataset.validation, device)
            state = run.checkpoint(epoch + 1, [*state.history, figures])
            save(state)
    return state


def accuracy(network: nn.Module, split: Split, device: torch.device) -> float:
    """Return the share of a split classified correctly, in float32 and eval mode."""
    network.eval()
    right = 0
    with torch.no_grad():
        for images, labels in zip(
            split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
        ):
            right += int((network(images.to(device)).argmax(1).cpu() == labels).sum())
    return right / len(split)


class _Run:
    """Network, optimiser and generator of one training run."""

    def __init__(self, recipe: Recipe, split: Split, device: torch.device, start: Checkpoint) -> None:
        self._recipe, self._device = recipe, device
        self._images = split.images.to(device)
        self._labels = split.labels.to(device)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = DigitCNN()
        self.network.to(device).to(memory_format=torch.channels_last)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.peak_rate)
        self._bfloat16 = has_bfloat16(device)
        if start.epoch:
            self._restore(start)

    def epoch(self, epoch: int, progress: Progress) -> float:
        """Run one epoch and return its mean training loss."""
        self.network.train()
        order = torch.randperm(len(self._labels), generator=self._generator).to(self._device)
        batches = order.split(self._recipe.batch_size)
        total = torch.zeros((), device=self._device)
        for index, chosen in enumerate(batches):
            loss, right = self._step(chosen, epoch + index / len(batches))
            total += loss * len(chosen)
            progress.step(loss=float(loss), accuracy=float(right))
        return float(total) / len(self._labels)

    def _step(self, chosen: Tensor, position: float) -> tuple[Tensor, Tensor]:
        images = self._images[chosen].contiguous(memory_format=torch.channels_last)
        labels = self._labels[chosen]
        with self._precision():
            if self._recipe.adversary is not None:
                unchanged = int(self._recipe.adversary.clean_share * len(images))
                moved = self._worst_case(images[unchanged:], labels[unchanged:], self._recipe.adversary, position)
                images = torch.cat((images[:unchanged], moved))
            logits = self.network(images).float()
            loss = functional.cross_entropy(logits, labels)
        for group in self._optimiser.param_groups:
            group["lr"] = _rate(self._recipe, position)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach(), (logits.argmax(1) == labels).float().mean()

    def _worst_case(self, images: Tensor, labels: Tensor, adversary: Adversary, position: float) -> Tensor:
        """Ascend the loss inside the Linf ball and the pixel box (Madry et al. 2018, section 2.1)."""
        share = min(1.0, (position + 0.05) / adversary.warmup_epochs)
        eps, step = adversary.eps * share, adversary.step_size * share
        low, high = (images - eps).clamp_(min=0), (images + eps).clamp_(max=1)
        moved = images
        if adversary.random_start:
            noise = torch.rand(images.shape, generator=self._generator).to(self._device)
            moved = torch.lerp(low, high, noise)
        for _ in range(adversary.steps):
            moved = moved.detach().requires_grad_()
            loss = functional.cross_entropy(self.network(moved).float(), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, moved)
            moved = torch.clamp(moved.detach() + step * gradient.sign(), low, high)
        return moved.detach()

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._bfloat16 else contextlib.nullcontext()

    def checkpoint(self, epoch: int, history: list[dict[str, float]]) -> Checkpoint:
        """Copy everything needed to go on: weights, Adam's moments, generator state."""
        tensors = {f"model.{name}": value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value.cpu().contiguous() for name, value in moments.items()}
        tensors["generator"] = self._generator.get_state()
        return Checkpoint(epoch, {name: value.clone() for name, value in tensors.items()}, history)

    def _restore(self, start: Checkpoint) -> None:
        weights = {name.removeprefix("model."): t for name, t in start.tensors.items() if name.startswith("model.")}
        self.network.load_state_dict(weights)
        state = self._optimiser.state_dict()
        for name, value in start.tensors.items():
            if name.startswith("adam."):
                _, index, moment = name.split(".")
                state["state"].setdefault(int(index), {})[moment] = value
        self._optimiser.load_state_dict(state)
        self._generator.set_state(start.tensors["generator"])


def _rate(recipe: Recipe, position: float) -> float:
    """Return the learning rate at a fractional epoch: constant, or up for a third of the run and down to zero."""
    if not recipe.cyclic:
        return recipe.peak_rate
    share = position / recipe.epochs
    return recipe.peak_rate * min(share * 3 + 0.05, 1.0, (1 - share) * 1.5 + 1e-3)
