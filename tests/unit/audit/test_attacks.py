"""Attacks: known answers on linear networks, and what every attack must hold to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.attacks import (
    ATTACKS,
    ApgdCe,
    ApgdT,
    AutoAttack,
    Corruption,
    DeepFool,
    FabT,
    Fgsm,
    HopSkipJump,
    Noise,
    Pgd,
    Square,
)
from audit.attacks.apgd import checkpoints
from audit.attacks.fab import to_hyperplane
from audit.loading import Samples
from audit.local import wrap_network
from audit.randomness import seeded
from audit.records import Knowledge, Norm, ThreatModel
from audit.target import known
from tests.unit import toy

WHITE_BOX = {
    "fgsm": Fgsm(),
    "pgd": Pgd(steps=10, step_size=0.1),
    "pgd twice": Pgd(steps=10, step_size=0.1, restarts=2),
    "apgd-ce": ApgdCe(steps=40),
    "fab-t": FabT(steps=10),
}
BOTH_NORMS = {
    **{name: WHITE_BOX[name] for name in ("fgsm", "pgd", "pgd twice", "apgd-ce", "fab-t")},
    "fab-t smallest": FabT(steps=10, smallest=True),
    "square": Square(queries=60),
    "noise": Noise(),
}
CASES = [
    *[pytest.param(attack, norm, id=f"{name} {norm}") for name, attack in BOTH_NORMS.items() for norm in Norm],
    *[pytest.param(ApgdT(steps=10, targets=3), norm, id=f"apgd-t {norm}") for norm in Norm],
    *[pytest.param(HopSkipJump(steps=3, queries=200), norm, id=f"hopskipjump {norm}") for norm in Norm],
    pytest.param(DeepFool(), Norm.L2, id="deepfool l2"),
]


def threat(eps, norm=Norm.LINF, knowledge=Knowledge.WHITE_BOX):
    return ThreatModel(goal="untargeted", knowledge=knowledge, norm=norm, eps=eps)


def formula(samples, network, eps):
    """How many samples of a linear network stand in Linf: the margin less sum |w| min(eps, room) must stay positive."""
    sign = 2.0 * samples.labels - 1
    margin = sign * network.score(samples.images)
    pixels = samples.images.flatten(1)
    downwards = sign.unsqueeze(1) * network.weight > 0
    room = torch.where(downwards, pixels, 1 - pixels)
    return int((margin - (network.weight.abs() * room.clamp(max=eps)).sum(1) > 0).sum())


def formula_l2(samples, network, eps):
    """How many samples of a linear network stand in L2, away from the box: margin less eps |w| must stay positive."""
    margin = (2.0 * samples.labels - 1) * network.score(samples.images)
    return int((margin - eps * network.weight.norm() > 0).sum())


@pytest.mark.parametrize("attack", WHITE_BOX.values(), ids=WHITE_BOX)
@pytest.mark.parametrize("eps", [0.1, 0.19, 0.2, 0.205, 0.25])
def test_linear_network_has_the_robust_accuracy_of_the_formula(laboratory, make_target, samples, attack, eps):
    network, few = toy.honest(), samples.subset(100)
    outcome = laboratory.attacked(make_target(network), few, attack, threat(eps), seed=0)
    measured, known_answer = int(outcome.standing.sum()), formula(few, network, eps)
    assert known_answer <= measured, "no attack can beat the formula"
    assert measured <= known_answer + 1, "every white-box attack must reach it, but for a rounding"


def test_autoattack_stands_where_its_strongest_part_does(laboratory, make_target, samples):
    network, few = toy.honest(), samples.subset(20)
    outcome = laboratory.attacked(make_target(network), few, AutoAttack(), threat(0.205), seed=0)
    assert int(outcome.standing.sum()) == formula(few, network, 0.205)
    assert sum(outcome.broken_first.values()) == 20 - formula(few, network, 0.205)


@pytest.mark.parametrize(
    "attack", [Fgsm(), Pgd(steps=60, step_size=0.4), ApgdCe(steps=40), FabT(steps=10), DeepFool()], ids=lambda a: a.name
)
@pytest.mark.parametrize("eps", [0.9, 1.18, 1.2, 1.22, 1.5])
def test_linear_network_has_the_l2_robust_accuracy_of_the_formula(laboratory, make_target, samples, attack, eps):
    network, few = toy.honest(), samples.subset(100)
    outcome = laboratory.attacked(make_target(network), few, attack, threat(eps, Norm.L2), seed=0)
    measured, known_answer = int(outcome.standing.sum()), formula_l2(few, network, eps)
    assert known_answer <= measured, "no attack can beat the formula"
    beyond = 0.02 if isinstance(attack, DeepFool) else 0.001  # deepfool overshoots the boundary by two per cent
    assert measured <= formula_l2(few, network, eps * (1 - beyond))


def test_smallest_perturbations_of_a_linear_network_are_its_margins(laboratory, make_target, samples):
    network, few = toy.honest(), samples.subset(40)
    for norm, attack, dual in (
        (Norm.LINF, FabT(steps=10, smallest=True), network.weight.abs().sum()),
        (Norm.L2, FabT(steps=10, smallest=True), network.weight.norm()),
        (Norm.L2, DeepFool(), network.weight.norm()),
    ):
        outcome = laboratory.attacked(make_target(network), few, attack, threat(3.0, norm), seed=0)
        margin = ((2.0 * few.labels - 1) * network.score(few.images) / dual).detach()
        found = torch.from_numpy(outcome.arrays["distance"])
        assert (found >= margin - 1e-5).all(), "no perturbation can be smaller than the margin"
        torch.testing.assert_close(found, margin, rtol=0.06, atol=1e-4)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_deepfool_finds_as_much_in_any_range_of_pixels(laboratory, samples, bounds):
    low, high = bounds
    few, network = samples.subset(40), toy.honest()

    class Scaled(torch.nn.Module):
        def forward(self, x):
            return network((x - low) / (high - low))

    target = wrap_network("scaled", Scaled(), classes=2, bounds=bounds, device=torch.device("cpu"))
    moved = Samples(low + (high - low) * few.images, few.labels)
    budget = threat(3.0 * (high - low), Norm.L2)
    found = laboratory.attacked(target, moved, DeepFool(), budget, seed=0).arrays["distance"] / (high - low)
    margin = ((2.0 * few.labels - 1) * network.score(few.images) / network.weight.norm()).detach().numpy()
    np.testing.assert_allclose(found, margin, rtol=0.06)


def problem(attack, samples):
    """Return images and a network that the attack can be run on: apgd-t needs four classes."""
    return (toy.quarters(), toy.four_ways()) if isinstance(attack, ApgdT) else (samples, toy.honest())


def run(attack, target, samples, budget, seed=5):
    with seeded(seed):
        return attack.perturb(known(target, attack.knowledge), samples, budget, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("attack", "norm"), CASES)
class TestConformance:
    """What every attack must hold to."""

    def test_stays_in_ball_and_box(self, laboratory, make_target, samples, attack, norm):
        samples, network = problem(attack, samples)
        eps = 0.3 if norm is Norm.LINF else 1.0
        outcome = laboratory.attacked(make_target(network), samples.subset(8), attack, threat(eps, norm), seed=0)
        assert outcome.arrays["distance"].max() <= eps + 1e-6
        assert outcome.arrays["gallery_moved"].min() >= 0
        assert outcome.arrays["gallery_moved"].max() <= 1

    def test_is_deterministic_by_seed(self, make_target, samples, attack, norm):
        samples, network = problem(attack, samples)
        target, few = make_target(network), samples.subset(6)
        first, second = (run(attack, target, few, threat(0.2, norm)) for _ in range(2))
        torch.testing.assert_close(first.images, second.images, rtol=0, atol=0)
        assert torch.equal(first.steps, second.steps)

    def test_leaves_global_randomness_alone(self, laboratory, make_target, samples, attack, norm):
        samples, network = problem(attack, samples)
        before = torch.get_rng_state()
        laboratory.attacked(make_target(network), samples.subset(4), attack, threat(0.2, norm), seed=0)
        assert torch.equal(torch.get_rng_state(), before)

    def test_touches_neither_samples_nor_parameters(self, make_target, samples, attack, norm):
        samples, network = problem(attack, samples)
        target, few = make_target(network), samples.subset(6)
        images, labels = few.images.clone(), few.labels.clone()
        run(attack, target, few, threat(0.2, norm))
        assert torch.equal(few.images, images)
        assert torch.equal(few.labels, labels)
        assert target.unchanged()

    @pytest.mark.parametrize("count", [0, 1])
    def test_takes_no_sample_and_one(self, make_target, samples, attack, norm, count):
        samples, network = problem(attack, samples)
        few = samples.at(slice(0, count))
        moved = run(attack, make_target(network), few, threat(0.2, norm))
        assert moved.images.shape == few.images.shape
        assert moved.steps.shape == (count,)

    def test_takes_samples_that_are_all_wrong(self, laboratory, make_target, samples, attack, norm):
        samples, network = problem(attack, samples)
        few = samples.subset(6)
        wrong = Samples(few.images, (few.labels + 1) % network.classes)
        outcome = laboratory.attacked(make_target(network), wrong, attack, threat(0.05, norm), seed=0)
        assert not outcome.standing.any()

    def test_is_at_least_as_strong_as_noise(self, laboratory, make_target, samples, attack, norm):
        if isinstance(attack, ApgdT):
            samples, network = problem(attack, samples)
        else:
            network = toy.fragile()
        target, few, budget = make_target(network), samples.subset(10), threat(0.1, norm)
        attacked = laboratory.attacked(target, few, attack, budget, seed=0)
        noise = laboratory.attacked(target, few, Noise(), budget, seed=0)
        assert attacked.standing.mean() <= noise.standing.mean()


def test_the_conformance_list_holds_every_bounded_attack():
    listed = {case.values[0].name for case in CASES} | {"autoattack"}  # a composition of four of them
    assert listed == {name for name, attack in ATTACKS.items() if attack.bounded}


def test_a_transfer_attack_does_not_stop_where_its_surrogate_falls(make_target, samples):
    attack, few = Pgd(steps=30, step_size=0.02), samples.subset(10)
    direct = run(attack, make_target(toy.fragile()), few, threat(0.2))
    transferred = run(attack, make_target(toy.fragile()), few, threat(0.2, knowledge=Knowledge.TRANSFER))
    assert direct.steps.max() < 30
    assert transferred.steps.float().mean() > 2 * direct.steps.float().mean()


def test_where_no_sample_leaves_the_best_of_all_runs_is_kept(make_target):
    """Later target classes once overwrote what earlier ones had found."""
    samples, target = toy.quarters(), make_target(toy.four_ways())
    one = run(ApgdT(steps=20, targets=1), target, samples, threat(0.2, knowledge=Knowledge.TRANSFER))
    all_of_them = run(ApgdT(steps=20, targets=3), target, samples, threat(0.2, knowledge=Knowledge.TRANSFER))
    fell = [int((target.predict(moved.images) != samples.labels).sum()) for moved in (one, all_of_them)]
    assert fell[0] > 0
    assert fell[1] >= fell[0]


def test_black_box_attacks_are_shown_no_more_than_their_knowledge(make_target, samples):
    target = make_target(toy.honest())
    scores, labels = known(target, Knowledge.BLACK_BOX_SCORE), known(target, Knowledge.BLACK_BOX_LABEL)
    x = samples.images[:2].clone().requires_grad_()
    assert not scores.logits(x).requires_grad
    assert not hasattr(labels, "logits")
    assert labels.predict(samples.images[:2]).tolist() == samples.labels[:2].tolist()


def test_bfloat16_steers_the_search_and_ends_it_nowhere(make_target, samples):
    """A sample leaves only when float32 says so: here the cheap arithmetic sees wrong answers everywhere."""
    target = make_target(toy.honest())
    target.exact = False
    target.step_logits = lambda x: -target.logits(x)
    moved = run(Pgd(steps=5, step_size=0.01), target, samples.subset(10), threat(0.01))
    assert (moved.steps == 5).all()
    assert (target.predict(moved.images) == samples.subset(10).labels).all()


def test_autoattack_is_the_standard_composition():
    assert [stage.describe() for stage in AutoAttack().stages(10)] == [
        {"name": "apgd-ce", "steps": 100, "restarts": 1},
        {"name": "apgd-t", "steps": 100, "targets": 9},
        {"name": "fab-t", "steps": 100, "targets": 9, "smallest": False},
        {"name": "square", "queries": 5000, "first_share": 0.8},
    ]


def test_autoattack_adapts_to_few_classes_and_says_so():
    assert [stage.name for stage in AutoAttack().stages(3)] == ["apgd-ce", "fab-t", "square"]
    assert AutoAttack().stages(3)[1].describe()["targets"] == 2
    assert AutoAttack().stages(4)[1].describe()["targets"] == 3


def test_the_targeted_loss_refuses_fewer_than_four_classes(make_target, samples):
    with pytest.raises(ValueError, match="targeted DLR loss needs 4 classes, got 2"):
        run(ApgdT(), make_target(toy.honest()), samples.subset(2), threat(0.1))


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@given(
    points=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4),
    normal=st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4),
    value=st.floats(-2.0, 2.0),
    norm=st.sampled_from(list(Norm)),
)
def test_projection_onto_a_hyperplane_is_the_smallest_that_reaches_it(points, normal, value, norm):
    x, w = torch.tensor([points]).double(), torch.tensor([normal]).double()
    shift = to_hyperplane(x, w, torch.tensor([value]).double(), norm, (0.0, 1.0))
    moved = x + shift
    assert moved.min() >= -1e-9
    assert moved.max() <= 1 + 1e-9
    left = float((w * shift).sum() + value)
    reach = torch.where((w > 0) == (value > 0), x, 1 - x)
    if float((w.abs() * reach).sum()) < abs(value):  # the box does not reach the hyperplane: go as far as it allows
        assert abs(left) == pytest.approx(abs(value) - float((w.abs() * reach).sum()), abs=1e-5)
        return
    assert left == pytest.approx(0.0, abs=1e-5)
    if abs(value) < 1e-3:
        return
    size = float(shift.abs().max() if norm is Norm.LINF else shift.norm())
    for smaller in (0.9, 0.99):  # a ball a little smaller does not reach it
        speeds = torch.ones_like(w) if norm is Norm.LINF else w.abs()
        scale = size * smaller
        if norm is Norm.L2:
            kept = [torch.minimum(t * speeds, reach) for t in torch.linspace(0, 50, 5001).tolist()]
            inside = [one for one in kept if float(one.norm()) <= scale]
            best = max(float((w.abs() * one).sum()) for one in inside)
        else:
            best = float((w.abs() * reach.clamp(max=scale)).sum())
        assert best < abs(value) + 1e-9


@pytest.mark.parametrize("kind", ["rotation", "translation", "blur", "contrast"])
def test_corruptions_grow_with_their_strength(make_target, samples, kind):
    few = samples.subset(20)
    sizes = []
    for strength in (0.0001, 0.6) if kind in ("contrast", "blur") else (0.4, 20.0):
        moved = run(Corruption(kind=kind, strength=strength), make_target(toy.honest()), few, threat(1.0))
        assert moved.images.shape == few.images.shape
        sizes.append(float((moved.images - few.images).abs().mean()))
    assert sizes[0] < sizes[1]
