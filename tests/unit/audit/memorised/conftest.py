"""The bundled digits, enlarged to 28 x 28, and honest networks of several kinds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from audit.builtin import fit_undefended
from audit.loading import load_dataset
from model_under_test import network
from tests.unit.audit.memorised.stores import Nearest, prototypes

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def digits():
    """Give the digits as the audit has them."""
    return load_dataset("model_under_test.data:digits", ROOT, offline=True).held_out(0)


@pytest.fixture(scope="session")
def judged(digits):
    """Give the first 200 images that are judged."""
    return digits.audit.subset(200)


def fitted(build, samples, steps=300):
    """Fit a network by cross-entropy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build()
    generator, optimiser = torch.Generator().manual_seed(0), torch.optim.Adam(made.parameters(), lr=2e-3)
    for _ in range(steps):
        chosen = torch.randint(len(samples), (64,), generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(made(samples.images[chosen]), samples.labels[chosen]).backward()
        optimiser.step()
    return made


def released(name):
    """Return a released network."""
    found = network.build()
    folder = {"mnist": "release", "digits": "release_digits"}[name]
    found.load_state_dict(load_file(ROOT / "model_under_test" / folder / f"{name}-hardened.safetensors"))
    return found


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


@pytest.fixture(scope="session")
def honest(digits):
    """Give a function that returns an honest network by its name."""
    training = digits.training
    kinds = {
        "released for digits": lambda: released("digits"),
        "released for MNIST": lambda: released("mnist"),
        "untrained": network.build_untrained,
        "small CNN": lambda: fit_undefended(digits.fitting, 10, torch.device("cpu"), steps=150),
        "linear": lambda: fitted(linear, training),
        "perceptron": lambda: fitted(perceptron, training),
        "class means": lambda: prototypes(training),
        "a hundred training images": lambda: Nearest(training.images[:100], training.labels[:100]),
        "all training images": lambda: Nearest(training.images, training.labels),
    }
    return cache(lambda name: kinds[name]())


HONEST = (
    "released for digits",
    "released for MNIST",
    "untrained",
    "small CNN",
    "linear",
    "perceptron",
    "class means",
    "a hundred training images",
    "all training images",
)
