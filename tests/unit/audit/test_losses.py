"""The loss of attacks along gradients: cross-entropy's direction, and no scale of the logits that hides it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.nn import functional

from audit.attacks import ApgdCe, Fgsm, Pgd
from audit.attacks.losses import SPREADS, log_odds
from audit.measure import Laboratory
from audit.probes import examine_target
from audit.records import Knowledge, Norm, ThreatModel
from audit.store import Store
from tests.unit import nets

SCALES = (1e-6, 1e-3, 1.0, 100.0, 1e4, 1e10, 1e30)
EPS = 0.08
PGD = Pgd(steps=40, step_size=0.01)


def scaled(scale):
    """Return a network whose last layer is multiplied: the same answers to all images."""
    network = nets.trained(epochs=8)
    with torch.no_grad():
        for parameter in network.layers[-1].parameters():
            parameter *= scale
    return network


def slopes(network, images, loss):
    x = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(network(x)).sum(), x)
    return found


@pytest.fixture(scope="module")
def standing(tmp_path_factory, make_target):
    """Give a function that returns how many of a hundred images an attack leaves standing, on a scaled network."""
    laboratory = Laboratory(
        "sha256:toy", Store(tmp_path_factory.mktemp("results"), b"secret"), lambda done, total: None
    )

    @cache
    def attacked(scale, attack, norm=Norm.LINF, eps=EPS, exact=True):
        target = make_target(scaled(scale), f"scaled by {scale}, {exact}")
        target.exact = exact
        budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, norm=norm, eps=eps)
        found = laboratory.attacked(target, nets.digits()[1].subset(100), attack, budget, seed=0)
        return int(found.standing.sum())

    return attacked


def test_it_is_the_log_odds_of_a_wrong_answer():
    logits, y = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 3.0]]), torch.tensor([0, 1])
    p = logits.softmax(1).gather(1, y.view(-1, 1)).squeeze(1)
    torch.testing.assert_close(log_odds(logits, y), ((1 - p) / p).log())


def test_its_gradient_has_the_direction_of_cross_entropy():
    network, (images, labels) = nets.trained(eps=0.1, steps=5, epochs=12), _few()
    with torch.no_grad():
        spread = network(images).amax(1) - network(images).amin(1)
    assert SPREADS[0] < float(spread.min()), "an ordinary network"
    assert float(spread.max()) < SPREADS[1], "an ordinary network"
    ours = slopes(network, images, lambda logits: log_odds(logits, labels))
    theirs = slopes(network, images, lambda logits: functional.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(functional.cosine_similarity(ours.flatten(1), theirs.flatten(1)), torch.ones(200))
    assert float((ours.sign() == theirs.sign()).float().mean()) > 0.999


@pytest.mark.parametrize("scale", SCALES)
def test_no_scale_of_the_last_layer_hides_a_gradient(make_target, scale):
    images, labels = _few()
    found = slopes(scaled(scale), images, lambda logits: log_odds(logits, labels))
    assert bool(found.isfinite().all())
    assert bool((found.flatten(1) != 0).any(1).all())
    probes = {one.name: one for one in examine_target(make_target(scaled(scale)), nets.digits()[1])}
    assert probes["gradients"].passed


@pytest.mark.parametrize("scales", [(1e4, 1e10), (1e-6, 1e-3)], ids=["large", "small"])
def test_its_gradient_is_that_of_a_fixed_spread(scales):
    """Squared for a step of length one, gradients that grow and shrink with the logits overflow or underflow."""
    images, labels = _few()
    one, other = (slopes(scaled(scale), images, lambda logits: log_odds(logits, labels)) for scale in scales)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("scale", "exact"),
    [(10.0, True), (100.0, True), (1e3, True), (1e4, True), (1e4, False)],
    ids=["10", "100", "1,000", "10,000", "10,000 in bfloat16"],
)
def test_pgd_leaves_the_same_robust_accuracy_however_the_last_layer_is_scaled(standing, scale, exact):
    """Multiplied until half of the gradients of cross-entropy underflow, a network kept twice its robust accuracy."""
    plain, other = standing(1.0, PGD, exact=exact), standing(scale, PGD, exact=exact)
    assert 10 < plain < 90, "or it shows nothing"
    assert abs(plain - other) <= 1


@pytest.mark.parametrize(
    ("attack", "norm", "eps"),
    [
        pytest.param(Fgsm(), Norm.LINF, EPS, id="fgsm"),
        pytest.param(ApgdCe(steps=40), Norm.LINF, EPS, id="apgd"),
        pytest.param(Pgd(steps=40, step_size=0.1), Norm.L2, 0.6, id="pgd l2"),
    ],
)
def test_the_other_attacks_along_gradients_are_as_strong_at_any_scale(standing, attack, norm, eps):
    plain, other = (standing(scale, attack, norm, eps) for scale in (1.0, 1e4))
    assert 5 < plain < 95, "or it shows nothing"
    assert abs(plain - other) <= 2


def test_logits_of_minus_infinity_leave_the_others_their_gradients():
    logits = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    (found,) = torch.autograd.grad(log_odds(logits, torch.tensor([0])).sum(), logits)
    assert found.sign().tolist() == [[-1.0, 1.0, 0.0]]
    assert bool(found.isfinite().all())


def test_equal_logits_are_no_division_by_zero():
    logits = torch.zeros(1, 3, requires_grad=True)
    (found,) = torch.autograd.grad(log_odds(logits, torch.tensor([0])).sum(), logits)
    assert bool(found.isfinite().all())
    assert found[0].sign().tolist() == [-1.0, 1.0, 1.0]


def _few():
    few = nets.digits()[1].subset(200)
    return few.images, few.labels
