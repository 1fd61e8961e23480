"""Small changes stay small: a shift of a 28th and a zoom of a 20th."""

from __future__ import annotations

import torch

from audit.memorised.changes import CHANGES, changed


def test_images_of_mnist_s_size_are_shifted_by_one_pixel_in_four_directions():
    images = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1, -1)
    left, right, up, down = changed(images, (0.0, 1.0))[:, 0]
    one = images[0, 0]
    torch.testing.assert_close(left[:, :-1], one[:, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(right[:, 1:], one[:, :-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(up[:-1], one[1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(down[1:], one[:-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(right[:, 0], one[:, 0], atol=1e-4, rtol=0)


def test_images_of_any_size_stay_in_bounds_and_keep_most_of_what_they_show():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 6, 6), (3, 32, 48), (1, 7, 5)):
        images = torch.nn.functional.interpolate(torch.rand(12, shape[0], 3, 3, generator=generator), size=shape[1:])
        moved = changed(images - 0.5, (-0.5, 0.5))
        assert moved.shape == images.shape
        assert -0.5 <= float(moved.min()) <= float(moved.max()) <= 0.5
        assert 0 < float((moved - images + 0.5).abs().mean()) < 0.1
    assert len(CHANGES) == 6
