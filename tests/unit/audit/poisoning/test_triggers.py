"""Triggers: what they change, where, within the box, and that a placebo is the same pixels elsewhere."""

from __future__ import annotations

import pytest
import torch

from audit.poisoning.triggers import Blend, Pixel, Square, Stripes

BOX = (0.0, 1.0)
EVERY = [
    pytest.param(Square(size=3), id="square"),
    pytest.param(Pixel(row=1, column=2), id="pixel"),
    pytest.param(Blend(alpha=0.2), id="blend"),
    pytest.param(Stripes(amplitude=0.3), id="stripes"),
]


@pytest.fixture
def images():
    return torch.rand(4, 3, 10, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trigger", EVERY)
def test_every_trigger_keeps_shape_box_and_original(images, trigger):
    before = images.clone()
    stamped = trigger.stamp(images, BOX)
    assert stamped.shape == images.shape
    assert float(stamped.min()) >= 0
    assert float(stamped.max()) <= 1
    assert torch.equal(images, before)
    assert not torch.equal(stamped, images)
    assert torch.equal(stamped, trigger.stamp(images, BOX))


@pytest.mark.parametrize(
    ("square", "rows", "columns"),
    [
        (Square(size=3), slice(7, 10), slice(9, 12)),
        (Square(size=3, corner="top-left"), slice(0, 3), slice(0, 3)),
        (Square(size=3, corner="top-right"), slice(0, 3), slice(9, 12)),
        (Square(size=2, position=(4, 5)), slice(4, 6), slice(5, 7)),
    ],
)
def test_square_covers_its_place_and_nothing_else(images, square, rows, columns):
    stamped = square.stamp(images, BOX)
    assert (stamped[..., rows, columns] == 1).all()
    stamped[..., rows, columns] = images[..., rows, columns]
    assert torch.equal(stamped, images)


def test_pixel_changes_one_pixel(images):
    moved = Pixel(row=9, column=11, value=0.0).stamp(images, BOX) != images
    assert torch.nonzero(moved.any(0).any(0)).tolist() == [[9, 11]]


def test_blend_and_stripes_follow_their_formulas(images):
    blended = Blend(alpha=0.25, seed=3).stamp(images, BOX)
    pattern = (blended - 0.75 * images) / 0.25
    assert torch.allclose(pattern, pattern[:1, :1].expand_as(pattern), atol=1e-5)
    grey = torch.full((1, 1, 4, 12), 0.5)
    striped = Stripes(amplitude=0.2, frequency=3).stamp(grey, BOX)
    assert torch.allclose(striped[0, 0, 0, :4], torch.tensor([0.5, 0.7, 0.5, 0.3]), atol=1e-6)


@pytest.mark.parametrize("trigger", [Square(size=11), Square(size=2, position=(9, 0)), Pixel(row=10, column=0)])
def test_a_trigger_larger_than_the_image_is_refused(images, trigger):
    with pytest.raises(ValueError, match=r"inside images of 10x12 pixels \(got "):
        trigger.stamp(images, BOX)


@pytest.mark.parametrize("trigger", EVERY)
def test_placebo_has_the_same_pixels_in_other_places(trigger):
    grey = torch.full((1, 1, 10, 12), 0.5)
    real, placebo = trigger.stamp(grey, BOX), trigger.stamp(grey, BOX, placebo=0)
    assert torch.equal(real.flatten().sort().values, placebo.flatten().sort().values)
    assert not torch.equal(real, placebo)
    assert not torch.equal(placebo, trigger.stamp(grey, BOX, placebo=1))


@pytest.mark.parametrize("seed", range(40))
def test_placebo_of_a_small_trigger_leaves_its_own_place_alone(seed):
    grey = torch.full((1, 1, 6, 6), 0.5)
    assert float(Pixel(row=5, column=5).stamp(grey, BOX, placebo=seed)[0, 0, 5, 5]) == 0.5
