"""Small changes of an image that no label depends on, whatever images show: shifts and zooms, no turn and no mirror.

Source: Engstrom et al. 2019, arXiv:1712.02779, whose shifts are a tenth of the side; these are a 28th, which is one
pixel of MNIST.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT, ZOOM = 1 / 28, 0.05  # shares of the side
# (scale, along the width, along the height): where in the image each pixel is taken from
CHANGES = ((1, SHIFT, 0), (1, -SHIFT, 0), (1, 0, SHIFT), (1, 0, -SHIFT), (1 - ZOOM, 0, 0), (1 + ZOOM, 0, 0))


def changed(images: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return (N, C, H, W) images, each with one of the changes in turn; what comes from outside repeats the edge."""
    maps = torch.tensor([[[scale, 0, 2 * x], [0, scale, 2 * y]] for scale, x, y in CHANGES])
    grid = functional.affine_grid(maps[torch.arange(len(images)) % len(maps)], list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.clamp(*bounds)
