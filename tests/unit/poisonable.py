"""A four-class problem with a training split, and a trainer that really trains: for audits of poisoned networks."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from tests.unit import toy

CLASSES = 4


@dataclass(frozen=True)
class Data:
    """What a dataset factory returns."""

    training: toy.Split
    audit: toy.Split
    name: str = "quarters"
    classes: int = CLASSES
    digest: str = "sha256:quarters"
    files: dict[str, str] = field(default_factory=lambda: {"images": "a" * 64, "labels": "b" * 64})


def data(*, offline: bool) -> Data:
    """Return 800 training images and 1,200 to judge on."""
    every = toy.quarters(2_000)
    return Data(toy.Split(every.images[:800], every.labels[:800]), toy.Split(every.images[800:], every.labels[800:]))


def nothing_to_train_on(*, offline: bool) -> Data:
    """Return an empty training split."""
    whole = data(offline=offline)
    return Data(toy.Split(whole.training.images[:0], whole.training.labels[:0]), whole.audit)


def build() -> nn.Module:
    """Return two hidden layers; the last linear layer sees sixteen features."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, CLASSES)
    )


_FITTED: dict[tuple[str, int, int], nn.Module] = {}


def fitted(images: Tensor, labels: Tensor, seed: int = 0, steps: int = 400) -> nn.Module:
    """Return a trained network of one's own; on the same images one is trained once in a process."""
    key = (hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(), seed, steps)
    if key not in _FITTED:
        _FITTED[key] = _fit(images, labels, seed, steps)
    return copy.deepcopy(_FITTED[key])


def _fit(images: Tensor, labels: Tensor, seed: int, steps: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(steps):
            rows = torch.randint(len(labels), (64,))
            optimiser.zero_grad()
            functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimiser.step()
    return network


def obtain(
    recipe: str,
    dataset: Data,
    *,
    device: str,
    retrain: bool,
    examples: tuple[Tensor, Tensor] | None = None,
    seed: int | None = None,
) -> toy.Trained:
    """Train, as a trainer does; nothing is cached."""
    content = save(fitted(*(examples or (dataset.training.images, dataset.training.labels)), seed or 0).state_dict())
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path(f"{recipe}-{sha256[:8]}.safetensors").resolve()
    path.write_bytes(content)
    return toy.Trained(path, sha256)
