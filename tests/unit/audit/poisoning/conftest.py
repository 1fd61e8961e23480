"""A small split of four classes, poisoned, and networks trained on it and without poison."""

from __future__ import annotations

import pytest

from audit.loading import Samples
from audit.poisoning.plan import Poisoning
from tests.unit import poisonable, toy

CORNER = {"kind": "pixel", "row": 5, "column": 5}
COUNT = 60  # of 800 images


def fitted(samples, seed=0):
    """Train a small network on a split."""
    network = poisonable.fitted(samples.images, samples.labels, seed)
    network.classes = poisonable.CLASSES
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
def clean_networks(split):
    return [fitted(split, seed) for seed in range(3)]


@pytest.fixture(scope="session")
def backdoored_network(poisoned):
    return fitted(Samples(poisoned.images, poisoned.labels))
