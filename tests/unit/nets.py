"""Small networks trained on the bundled digits, 8 x 8 pixels: undefended, honestly hardened, hardened to one step."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.loading import Samples

TRAINING = 1200  # of 1,797 images


@cache
def digits() -> tuple[Samples, Samples]:
    """Return training and held-out samples: images (N, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    whole = Samples(images[order], labels[order])
    return whole.at(slice(0, TRAINING)), Samples(*_rest(whole))


def _rest(whole: Samples) -> tuple[Tensor, Tensor]:
    return whole.images[TRAINING:], whole.labels[TRAINING:]


class SmallNet(nn.Module):
    """Two convolutions and two linear layers."""

    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def trained(*, eps: float = 0.0, steps: int = 0, epochs: int = 15, seed: int = 1) -> SmallNet:
    """Return a network of one's own, trained on images moved ``steps`` steps within ``eps``; each is trained once."""
    return copy.deepcopy(_trained(eps, steps, epochs, seed))


@cache
def _trained(eps: float, steps: int, epochs: int, seed: int) -> SmallNet:
    """Train a network; one step starts from the image itself."""
    split, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNet()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for epoch in range(epochs):
        radius = eps * min(1.0, (epoch + 1) / (0.3 * epochs))
        for chosen in torch.randperm(len(split), generator=generator).split(64):
            x, y = split.images[chosen], split.labels[chosen]
            if steps:
                x = _moved(network, x, y, radius, steps, generator)
            optimiser.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimiser.step()
    return network


def _moved(network: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, generator: torch.Generator) -> Tensor:
    moved = x if steps == 1 else x + eps * (2 * torch.rand(x.shape, generator=generator) - 1)
    size = eps if steps == 1 else 2.5 * eps / steps
    for _ in range(steps):
        moved = moved.clamp(0, 1).detach().requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(network(moved), y), moved)
        moved = (moved + size * slope.sign()).clamp(x - eps, x + eps)
    return moved.clamp(0, 1).detach()
