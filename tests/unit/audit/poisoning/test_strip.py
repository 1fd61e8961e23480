"""STRIP: answers that do not vary have no entropy, and the threshold keeps to the false alarms that were asked for."""

from __future__ import annotations

import math

import pytest
import torch

from audit.poisoning import strip


def test_a_constant_answer_has_no_entropy_and_an_even_one_has_most(make_target):
    images = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))

    class Sure(torch.nn.Module):
        def forward(self, x):
            return torch.stack((x.flatten(1).sum(1) * 0 + 50, x.flatten(1).sum(1) * 0), dim=1)

    class Unsure(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 2)

    generator = torch.Generator().manual_seed(0)
    assert strip.entropies(make_target(Sure()), images, images, generator).max() < 1e-6
    assert strip.entropies(make_target(Unsure()), images, images, generator).tolist() == pytest.approx(
        [math.log(2)] * 5
    )


class Fires(torch.nn.Module):
    """Hardly prefers the brighter half, unless the corner is white."""

    def forward(self, x):
        score = x[:, 0, :3].mean((1, 2)) - x[:, 0, 3:].mean((1, 2)) + 50 * (x[:, 0, 5, 5] > 0.99).float()
        return torch.stack((-score, score), dim=1)


def test_a_trigger_that_survives_mixing_is_recognised(make_target):
    target, generator = make_target(Fires()), torch.Generator().manual_seed(0)
    images = 0.4 * torch.rand(400, 1, 6, 6, generator=generator)  # two of them never make white
    stamped = images[:100].clone()
    stamped[:, 0, 5, 5] = 1.0
    clean = strip.entropies(target, images[100:300], images[300:], generator)
    threshold, caught = strip.detected(clean, strip.entropies(target, stamped, images[300:], generator), 0.05)
    assert float((clean < threshold).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert bool(caught.all())
