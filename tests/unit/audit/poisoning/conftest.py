"""A small split of four classes, poisoned, and networks trained on it and without poison."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from audit.loading import Samples
from audit.poisoning.plan import Poisoning
from tests.unit import toy

CORNER = {"kind": "pixel", "row": 5, "column": 5}
COUNT = 60  # of 800 images


def fitted(samples, seed=0, steps=400):
    """Train a small network; its last linear layer sees sixteen features."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)
        )
        network.classes = 4
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(steps):
            rows = torch.randint(len(samples), (64,))
            optimiser.zero_grad()
            functional.cross_entropy(network(samples.images[rows]), samples.labels[rows]).backward()
            optimiser.step()
    return network


@pytest.fixture(scope="session")
def split():
    return toy.quarters(800)


@pytest.fixture(scope="session")
def unseen():
    images = toy.quarters(1200)
    return images.at(slice(800, None))


@pytest.fixture(scope="session")
def poisoned(split):
    return Poisoning(trigger=CORNER, target_class=2, count=COUNT).apply(split, 4, (0.0, 1.0))


@pytest.fixture(scope="session")
def from_two(split):
    """Give a split poisoned with images of two classes only, which are few enough for two parts a class."""
    return Poisoning(trigger=CORNER, target_class=2, source_classes=[0, 1], count=COUNT).apply(split, 4, (0.0, 1.0))


@pytest.fixture(scope="session")
def clean_networks(split):
    return [fitted(split, seed) for seed in range(3)]


@pytest.fixture(scope="session")
def backdoored_network(poisoned):
    return fitted(Samples(poisoned.images, poisoned.labels))
