"""Input defences: what they do to an image, and that attacks go through them."""

from __future__ import annotations

import pytest
import torch

from audit.attacks import Pgd
from audit.building import defend
from audit.defences import Ensemble, FeatureSqueezing, Jpeg, RandomizedSmoothing
from audit.records import Knowledge, ThreatModel
from tests.unit import nets, toy

THROUGH = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.25)
BEFORE = ThreatModel(goal="any", knowledge=Knowledge.TRANSFER, eps=0.25)
DEFENCES = [Jpeg(quality=60), FeatureSqueezing(bits=1), RandomizedSmoothing(sigma=0.1, samples=4)]


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda one: one.name)
def test_an_attack_through_a_defence_leaves_less_than_one_before_it(laboratory, make_target, defence):
    inner = make_target(nets.trained(epochs=6), "inner")
    defended, samples = defend("defended", inner, defence, None), nets.digits()[1].subset(60)
    attack = Pgd(steps=15, step_size=0.04)
    clean = laboratory.clean(defended, samples)
    through = laboratory.attacked(defended, samples, attack, THROUGH, seed=0)
    apparent = laboratory.attacked(defended, samples, attack, BEFORE, seed=0, crafted_on=inner)
    assert (clean.after == clean.labels).mean() > 0.8, "or it defends nothing"
    assert through.standing.mean() <= apparent.standing.mean()
    assert through.standing.mean() < 0.35


@pytest.mark.parametrize("defence", DEFENCES[:2], ids=lambda one: one.name)
def test_gradients_pass_straight_through(make_target, defence):
    defended = defend("defended", make_target(nets.trained(epochs=6), "inner"), defence, None)
    x = nets.digits()[1].images[:4].clone().requires_grad_()
    defended.logits(x).sum().backward()
    assert (x.grad != 0).any()


def test_squeezing_keeps_as_many_levels_as_it_says():
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.flatten(1)[:, :2]

    FeatureSqueezing(bits=2).wrap(Looking(), (0.0, 1.0), None)(torch.rand(5, 1, 8, 8))
    assert set(seen[0].mul(3).round(decimals=4).unique().tolist()) == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_jpeg_knows_the_range_of_the_pixels(bounds):
    low, high = bounds
    x = low + (high - low) * nets.digits()[1].images[:3]
    network = Jpeg(quality=95).wrap(torch.nn.Flatten(), bounds, None)
    assert (network(x) - x.flatten(1)).abs().mean() < 0.05 * (high - low)
    colour = x.repeat(1, 3, 1, 1)
    assert Jpeg().wrap(torch.nn.Flatten(), bounds, None)(colour).shape == (3, 3 * 64)


def test_a_smoothed_target_answers_with_the_mean_over_draws(make_target):
    inner = make_target(nets.trained(epochs=6), "inner")
    smoothed = defend("smoothed", inner, RandomizedSmoothing(sigma=0.1, samples=8), None)
    assert smoothed.draws == 8
    x = nets.digits()[1].images[:10]
    assert torch.equal(smoothed.predict(x), smoothed.predict(x))


def test_an_ensemble_answers_with_the_mean_probability(make_target, samples):
    one, other = make_target(toy.honest(), "one"), make_target(toy.fragile(), "other")
    both = defend("both", one, Ensemble(other="other"), other)
    x = samples.images[:6]
    mean = (one.all_logits(x).softmax(1) + other.all_logits(x).softmax(1)) / 2
    torch.testing.assert_close(both.all_logits(x).softmax(1), mean)


def test_an_ensemble_of_one_is_refused():
    with pytest.raises(ValueError, match="expected a second network, other"):
        Ensemble(other="other").wrap(toy.honest(), (0.0, 1.0), None)


def test_defended_targets_that_differ_have_different_digests(make_target):
    inner = make_target(toy.honest())
    digests = {defend("x", inner, FeatureSqueezing(bits=bits), None).digest for bits in (1, 2, 3)}
    assert len(digests | {inner.digest}) == 4
