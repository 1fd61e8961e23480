"""Measurement: known answers on linear networks, and nothing an attack says about itself is believed."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from audit.attacks import Attack, Fgsm, Noise, Pgd
from audit.errors import AttackError, TargetError
from audit.loading import Samples
from audit.measure import accuracy, attack_success_rate, robust_accuracy
from audit.metrics import distances
from audit.records import Bound, Knowledge, Metric, Norm, ThreatModel, Trigger
from tests.unit import toy

FLOOR = Bound(metric=Metric.ROBUST_ACCURACY, at_least=0.9)
WHITE_BOX_ATTACKS = [Fgsm(), Pgd(steps=10, step_size=0.1), Pgd(steps=10, step_size=0.1, restarts=2)]


def threat(eps, norm=Norm.LINF):
    return ThreatModel(goal="untargeted", knowledge=Knowledge.WHITE_BOX, norm=norm, eps=eps)


def formula(samples, network, eps):
    """Robust accuracy of a linear network: the margin less sum |w| min(eps, room) must stay positive."""
    sign = 2.0 * samples.labels - 1
    margin = sign * network.score(samples.images)
    pixels = samples.images.flatten(1)
    downwards = sign.unsqueeze(1) * network.weight > 0
    room = torch.where(downwards, pixels, 1 - pixels)
    return float((margin - (network.weight.abs() * room.clamp(max=eps)).sum(1) > 0).float().mean())


@pytest.mark.parametrize("attack", WHITE_BOX_ATTACKS, ids=["fgsm", "pgd", "pgd twice"])
@pytest.mark.parametrize("eps", [0.1, 0.19, 0.2, 0.205, 0.25])
def test_linear_network_has_the_robust_accuracy_of_the_formula(laboratory, make_target, samples, attack, eps):
    network = toy.honest()
    few = samples.subset(100)
    expected = formula(few, network, eps)
    outcome = laboratory.attacked(make_target(network), few, attack, threat(eps), seed=0)
    assert robust_accuracy(outcome, FLOOR, seed=0).value == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("attack", [*WHITE_BOX_ATTACKS, Noise()], ids=["fgsm", "pgd", "pgd twice", "noise"])
@pytest.mark.parametrize("norm", list(Norm))
class TestConformance:
    """What every attack must hold to."""

    def test_stays_in_ball_and_box(self, laboratory, make_target, samples, attack, norm):
        outcome = laboratory.attacked(make_target(toy.honest()), samples.subset(20), attack, threat(0.3, norm), seed=0)
        assert outcome.arrays["distance"].max() <= 0.3 + 1e-6
        assert outcome.arrays["gallery_moved"].min() >= 0
        assert outcome.arrays["gallery_moved"].max() <= 1

    def test_is_deterministic_by_seed_and_leaves_global_randomness_alone(self, make_target, samples, attack, norm):
        target, few = make_target(toy.honest()), samples.subset(10)
        before = torch.get_rng_state()
        first, second = (
            attack.perturb(target, few, threat(0.2, norm), torch.Generator().manual_seed(5)) for _ in range(2)
        )
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert torch.equal(torch.get_rng_state(), before)

    def test_touches_neither_samples_nor_parameters(self, make_target, samples, attack, norm):
        network, few = toy.honest(), samples.subset(10)
        images, labels, weight = few.images.clone(), few.labels.clone(), network.weight.clone()
        attack.perturb(make_target(network), few, threat(0.2, norm), torch.Generator().manual_seed(5))
        assert torch.equal(few.images, images)
        assert torch.equal(few.labels, labels)
        assert torch.equal(network.weight, weight)

    @pytest.mark.parametrize("count", [0, 1])
    def test_takes_no_sample_and_one(self, make_target, samples, attack, norm, count):
        few = Samples(samples.images[:count], samples.labels[:count])
        moved = attack.perturb(make_target(toy.honest()), few, threat(0.2, norm), torch.Generator().manual_seed(5))
        assert moved.shape == few.images.shape

    def test_is_at_least_as_strong_as_noise(self, laboratory, make_target, samples, attack, norm):
        target, few, budget = make_target(toy.fragile()), samples.subset(50), threat(0.1, norm)
        attacked = laboratory.attacked(target, few, attack, budget, seed=0)
        noise = laboratory.attacked(target, few, Noise(), budget, seed=0)
        assert attacked.standing.mean() <= noise.standing.mean()


class Overreaching(Attack):
    """Claims the whole pixel box, whatever the budget."""

    name: Literal["overreaching"] = "overreaching"

    def perturb(self, target, samples, threat_model, generator):
        return 1 - samples.images


class Shrinking(Attack):
    """Loses a sample."""

    name: Literal["shrinking"] = "shrinking"

    def perturb(self, target, samples, threat_model, generator):
        return samples.images[1:]


def test_an_attack_that_leaves_its_budget_gains_nothing(laboratory, make_target, samples):
    outcome = laboratory.attacked(make_target(toy.honest()), samples, Overreaching(), threat(0.05), seed=0)
    assert outcome.arrays["distance"].max() <= 0.05 + 1e-6
    assert outcome.standing.all()


def test_an_attack_that_loses_samples_is_an_error(laboratory, make_target, samples):
    with pytest.raises(AttackError, match=r"expected finite images of shape \(400, 1, 6, 6\)"):
        laboratory.attacked(make_target(toy.honest()), samples, Shrinking(), threat(0.05), seed=0)


def test_samples_wrong_before_the_attack_count_as_broken(laboratory, make_target, samples):
    flipped = Samples(samples.images, 1 - samples.labels)
    outcome = laboratory.attacked(make_target(toy.fragile()), flipped, Overreaching(), threat(0.5), seed=0)
    measured = robust_accuracy(outcome, FLOOR, seed=0)
    assert measured.value == 0.0
    assert measured.raw_value == 1.0


def test_a_transfer_attack_is_weaker_than_the_white_box_one(laboratory, make_target, samples):
    fragile, honest = make_target(toy.fragile(), "fragile"), make_target(toy.honest(), "honest")
    transferred = laboratory.attacked(honest, samples, Fgsm(), threat(0.25), seed=0, crafted_on=fragile)
    direct = laboratory.attacked(honest, samples, Fgsm(), threat(0.25), seed=0)
    assert transferred.standing.mean() == 1.0
    assert direct.standing.mean() < 0.1


def test_attack_success_rate_leaves_out_the_target_class(laboratory, make_target, samples):
    trigger = Trigger(size=1, value=1.0, target_class=1)
    bound = Bound(metric=Metric.ATTACK_SUCCESS_RATE, at_most=0.02)
    poisoned = laboratory.triggered(make_target(toy.backdoored(), "backdoored"), samples, trigger)
    assert len(poisoned.labels) == int((samples.labels == 0).sum())
    assert attack_success_rate(poisoned, bound, trigger).value == 1.0
    clean = laboratory.triggered(make_target(toy.honest()), samples, trigger)
    assert attack_success_rate(clean, bound, trigger).value == 0.0


def test_clean_accuracy_of_a_constant_answer_is_one_half(laboratory, make_target, samples):
    bound = Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.9)
    assert accuracy(laboratory.clean(make_target(toy.untrained()), samples), bound).value == 0.5


def test_an_unchanged_model_is_not_attacked_twice(laboratory, make_target, samples):
    first = laboratory.attacked(make_target(toy.honest()), samples, Fgsm(), threat(0.2), seed=0)
    again = laboratory.attacked(make_target(toy.honest()), samples, Fgsm(), threat(0.2), seed=0)
    other = laboratory.attacked(make_target(toy.honest(), digest="sha256:other"), samples, Fgsm(), threat(0.2), seed=0)
    assert (first.from_store, again.from_store, other.from_store) == (False, True, False)
    assert (first.after == again.after).all()


def test_a_stored_result_is_of_its_bounds(laboratory, make_target, samples):
    wide, narrow = make_target(toy.honest()), make_target(toy.honest())
    narrow.bounds = (0.1, 0.9)
    laboratory.attacked(narrow, samples, Fgsm(), threat(0.3), seed=0)
    assert not laboratory.attacked(wide, samples, Fgsm(), threat(0.3), seed=0).from_store


def test_a_stored_result_is_not_believed_when_the_target_answers_otherwise(laboratory, make_target, samples):
    laboratory.clean(make_target(toy.honest(), digest="sha256:same"), samples)
    outcome = laboratory.clean(make_target(toy.untrained(), digest="sha256:same"), samples)
    assert not outcome.from_store
    assert (outcome.after == 0).all()


def test_bounds_that_float32_rounds_are_no_violation(make_target, samples):
    target = make_target(toy.honest())
    target.bounds = (0.2, 0.8)
    assert len(target.predict(samples.images.clamp(0.2, 0.8))) == 400


def test_a_target_refuses_pixels_out_of_bounds(make_target, samples):
    with pytest.raises(TargetError, match=r"expected pixels in \[0, 1\]"):
        make_target(toy.honest()).predict(samples.images + 1)


def test_a_target_refuses_logits_of_another_shape(make_target, samples):
    with pytest.raises(TargetError, match=r"expected logits of shape \(100, 2\), got \(100, 36\)"):
        make_target(torch.nn.Flatten()).predict(samples.images)


def test_distances_are_those_of_the_projected_images(laboratory, make_target, samples):
    few = samples.subset(8)
    outcome = laboratory.attacked(make_target(toy.honest()), few, Fgsm(), threat(0.2), seed=0)
    moved = torch.from_numpy(outcome.arrays["gallery_moved"])
    torch.testing.assert_close(torch.from_numpy(outcome.arrays["distance"]), distances(few.images, moved, Norm.LINF))
