"""A store of judged images is found in a network, however it is kept; honest networks hold none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audit.held import held
from audit.memorised.copies import find
from audit.memorised.examine import weighed
from tests.unit import nets
from tests.unit.audit.memorised.conftest import HONEST
from tests.unit.audit.memorised.stores import SEEN, UNSEEN, Holder


def found(network, images):
    return find(held(network), images)


@pytest.mark.parametrize("name", SEEN)
def test_a_store_of_judged_images_is_found(judged, name):
    copies = found(SEEN[name](judged.images), judged.images)
    passed, detail = weighed(copies, len(judged))
    assert not passed
    assert len(copies.found) > 0.5 * len(judged)
    assert "judged images are among them" in detail


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_not_seen_through_is_known(judged, name):
    """No praise of these stores: whoever sees through one of them moves it to the others."""
    assert weighed(found(UNSEEN[name](judged.images), judged.images), len(judged))[0]


@pytest.mark.parametrize("name", HONEST)
def test_honest_networks_hold_no_copies(judged, honest, name):
    passed, detail = weighed(found(honest(name), judged.images), len(judged))
    assert passed, detail


def test_honest_networks_of_small_images_hold_no_copies():
    images = nets.digits()[1].images
    assert not found(nets.trained(epochs=3), images).found
    stored = found(Holder(nets.digits()[0].images.clone()), images)
    assert stored.like_images > 1000
    assert weighed(stored, len(images))[0], "training images are no judged images"


def test_small_images_are_found_too():
    images = nets.digits()[1].images
    assert len(found(Holder(images.clone()), images).found) > 0.9 * len(images)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_colour_images_are_found(judged, last):
    images = torch.cat((judged.images, judged.images.roll(1, 0), 1 - judged.images.roll(2, 0)), dim=1)[:200]
    stored = images.movedim(1, -1) if last else images
    assert len(found(Holder(stored.flatten(1) + 0.01 * torch.rand(200, 2352)), images).found) > 190
    assert len(found(Holder(images.mean(1)), images).found) > 100, "grey copies"


def test_a_store_names_its_tensor_and_counts_images(judged):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), Holder(judged.images[:60].clone()))
    passed, detail = weighed(found(network, judged.images), len(judged))
    assert not passed
    assert "60 judged images are among them: 2.store_0 has 60" in detail


def test_copies_beyond_the_first_thousand_images_are_found_by_their_pixels():
    images = torch.rand(1500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert found(Holder(3 * images[1200:] + 1), images).found == set(range(1200, 1500))


def test_few_copies_are_chance_and_so_are_few_among_many_images_like_them(judged):
    few = found(Holder(judged.images[:4].clone()), judged.images)
    assert len(few.found) == 4
    assert weighed(few, len(judged))[0]
    few.of["more"] = set(range(10))
    assert not weighed(few, len(judged))[0]
    few.like_images = 2_000  # of training images, say
    assert weighed(few, len(judged))[0]
