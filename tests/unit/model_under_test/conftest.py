"""A tiny dataset of the shape the network wants, and a cache of its own for every test."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model_under_test import recipes
from model_under_test.data import Dataset, Split


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep every test's weights and data to itself; give the folder."""
    monkeypatch.setenv("MODEL_AUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    return tmp_path / "cache"


def split(n, seed):
    """Return n images whose brightness gives their class away."""
    labels = torch.arange(n) % 10
    noise = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split((0.1 * noise + labels.view(-1, 1, 1, 1) / 12).float(), labels)


@pytest.fixture
def dataset():
    """Give 40 training, 20 validation and 20 audit images."""
    return Dataset("digits", split(40, 1), split(20, 2), split(20, 3), classes=10, digest="sha256:tiny")


@pytest.fixture
def small_recipes(monkeypatch):
    """Shorten every digits recipe to three epochs."""
    for (data, name), recipe in list(recipes._TABLE.items()):
        if data == "digits":
            monkeypatch.setitem(recipes._TABLE, (data, name), replace(recipe, epochs=3, batch_size=16))
