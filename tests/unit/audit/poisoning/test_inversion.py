"""Trigger inversion: a planted trigger is much smaller than what clean networks need, and works on unseen images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audit.loading import Samples
from audit.poisoning.inversion import WORKS, invert, inverted

STEPS = 120


@pytest.fixture
def search(make_target, unseen):
    def run(network, seed=0, steps=STEPS):
        generator = torch.Generator().manual_seed(seed)
        return invert(make_target(network), unseen, steps, generator, lambda *_: None)

    return run


def test_the_planted_class_needs_the_smallest_trigger_by_far(search, backdoored_network, clean_networks):
    bad, good = search(backdoored_network), search(clean_networks[0])
    assert bad.suspect == 2
    assert bad.smallest < 0.5 * good.smallest
    row, column = np.unravel_index(bad.masks[2].argmax(), (6, 6))
    assert (row, column) == (5, 5)


def test_a_reported_trigger_works_on_images_that_the_search_has_not_seen(
    search, backdoored_network, unseen, make_target
):
    found = search(backdoored_network)
    mask, pattern = torch.from_numpy(found.masks[2]), torch.from_numpy(found.patterns[2])
    others = unseen.where(unseen.labels.ne(2)).images
    turned = (make_target(backdoored_network).predict((1 - mask) * others + mask * pattern) == 2).float().mean()
    assert found.rates[2] >= WORKS
    assert float(turned) >= 0.9


def test_a_class_that_cannot_be_reached_has_no_size(search):
    class Never(torch.nn.Module):
        classes = 4

        def forward(self, x):
            score = x.flatten(1).sum(1)
            return torch.stack((score, 1 - score, score * 0 - 99, score * 0 - 99), dim=1)

    found = search(Never(), steps=40)
    assert np.isinf(found.sizes[2:]).all()
    assert (found.rates[2:] == 0).all()


def test_the_same_seed_finds_the_same_and_another_seed_nearly(search, backdoored_network):
    first, again, other = search(backdoored_network), search(backdoored_network), search(backdoored_network, seed=1)
    assert np.array_equal(first.sizes, again.sizes)
    assert first.sizes[2] != other.sizes[2]
    assert other.suspect == 2


def test_classes_that_cannot_win_leave_half_way(search, backdoored_network):
    found = search(backdoored_network, steps=300)
    assert not found.left[2]
    assert found.left.any()


def test_an_inversion_is_taken_from_the_store(laboratory, make_target, unseen, backdoored_network):
    target = make_target(backdoored_network)
    first = inverted(laboratory, target, unseen, 40, 0)
    asked = target.passes.copy()
    again = inverted(laboratory, target, unseen, 40, 0)
    assert np.array_equal(first.masks, again.masks)
    assert target.passes.since(asked).gradient == 0
    assert target.passes.since(asked).forward <= 50
    assert (
        inverted(laboratory, target, Samples(unseen.images[:200], unseen.labels[:200]), 40, 0).smallest
        != first.smallest
    )
