"""STRIP: a triggered image keeps its class whatever it is mixed with, a clean one does not.

Source: Gao et al. 2019, arXiv:1902.06531, section IV. Each image is superimposed with clean images; the entropy of the
answers, averaged over them, is low for an image with a trigger. Written in torch: ART's own takes the entropy over the
wrong axis.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from audit.target import TorchTarget

OVERLAYS = 32


def entropies(target: TorchTarget, images: Tensor, overlays: Tensor, generator: Generator) -> Tensor:
    """Return the mean entropy of the answers, in nats.

    Args:
        target: the network.
        images: (N, C, H, W) float32 in bounds.
        overlays: (M, C, H, W) clean images to superimpose; each image gets ``OVERLAYS`` of them, chosen at random.
        generator: chooses.

    Returns:
        (N,) float32.
    """
    low, high = target.bounds
    found = []
    for image in images:
        chosen = overlays[torch.randint(len(overlays), (OVERLAYS,), generator=generator)]
        shares = target.all_logits((image + chosen - low).clamp(low, high)).softmax(1)
        found.append(-(shares * shares.clamp(min=1e-12).log()).sum(1).mean())
    return torch.stack(found)


def detected(clean: Tensor, triggered: Tensor, false_alarms: float) -> tuple[float, Tensor]:
    """Return the threshold that so large a share of clean images falls under, and which triggered ones do.

    Args:
        clean: (N,) entropies of clean images.
        triggered: (M,) entropies of triggered ones.
        false_alarms: share of clean images, for example 0.01.
    """
    threshold = float(clean.quantile(false_alarms))
    return threshold, triggered < threshold
