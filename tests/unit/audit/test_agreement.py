"""Agreement with other libraries on the same images: the same where there is one answer, else no weaker."""

from __future__ import annotations

import warnings

import pytest
import torch

from audit.attacks import ApgdCe, AutoAttack, FabT, Fgsm, Pgd, Square
from audit.records import Knowledge, Norm, ThreatModel
from tests.unit import nets

EPS = 0.15


@pytest.fixture(scope="module")
def robust():
    """Give a small robust network."""
    torch.set_num_threads(1)
    return nets.trained(eps=0.1, steps=5, epochs=12).eval()


def samples(n):
    return nets.digits()[1].subset(n)


def attacked(laboratory, make_target, network, attack, n, norm=Norm.LINF, eps=EPS, exact=None):
    budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, norm=norm, eps=eps)
    target = make_target(network)
    target.exact = target.exact if exact is None else exact
    return laboratory.attacked(target, samples(n), attack, budget, seed=0)


def right(network, images, labels):
    with torch.no_grad():
        return network(images).argmax(1) == labels


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchattacks imports what SciPy has moved
def test_fgsm_is_sample_for_sample_that_of_three_libraries(laboratory, make_target, robust):
    import foolbox
    import torchattacks
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    ours = attacked(laboratory, make_target, robust, Fgsm(), 200)
    few = samples(200)
    theirs = torchattacks.FGSM(robust, eps=EPS)(few.images, few.labels)
    assert right(robust, theirs, few.labels).tolist() == (ours.after == ours.labels).tolist()
    classifier = PyTorchClassifier(robust, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1))
    theirs = FastGradientMethod(classifier, eps=EPS).generate(few.images.numpy(), few.labels.numpy())
    assert right(robust, torch.from_numpy(theirs), few.labels).tolist() == (ours.after == ours.labels).tolist()
    model = foolbox.PyTorchModel(robust, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, theirs, _ = attack(model, few.images, few.labels, epsilons=EPS)
    assert right(robust, theirs, few.labels).tolist() == (ours.after == ours.labels).tolist()


@pytest.mark.parametrize(("norm", "eps", "step"), [(Norm.LINF, EPS, 0.01), (Norm.L2, 0.8, 0.1)])
def test_pgd_leaves_no_more_standing_than_that_of_art(laboratory, make_target, robust, norm, eps, step):
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    pgd = Pgd(steps=40, step_size=step, random_start=False)
    ours = attacked(laboratory, make_target, robust, pgd, 200, norm, eps, exact=True)  # ART computes in float32 too
    few = samples(200)
    classifier = PyTorchClassifier(robust, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1))
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        norm={Norm.LINF: "inf", Norm.L2: 2}[norm],
        eps=eps,
        eps_step=step,
        max_iter=40,
        num_random_init=0,
        verbose=False,
    )
    theirs = torch.from_numpy(attack.generate(few.images.numpy(), few.labels.numpy()))
    standing = right(robust, theirs, few.labels) & right(robust, few.images, few.labels)
    assert int(ours.standing.sum()) <= int(
        standing.sum()
    )  # the same start: ours looks at every iterate, ART at the last


@pytest.mark.parametrize(
    ("attack", "norm", "eps"),
    [
        (Pgd(steps=40, step_size=0.01), Norm.LINF, EPS),
        (Pgd(steps=40, step_size=0.1), Norm.L2, 0.8),
        (ApgdCe(), Norm.LINF, EPS),
        (ApgdCe(), Norm.L2, 0.8),
    ],
    ids=["pgd-linf", "pgd-l2", "apgd-linf", "apgd-l2"],
)
def test_bfloat16_steps_break_all_but_one_per_cent_of_what_float32_steps_break(
    laboratory, make_target, robust, attack, norm, eps
):
    """On any processor: where bfloat16 is not native, it is emulated here."""
    cheap, exact = (
        attacked(laboratory, make_target, robust, attack, 200, norm, eps, exact=one) for one in (False, True)
    )
    assert 0 < exact.standing.sum() < 200
    assert int((cheap.standing & ~exact.standing).sum()) <= 2


def standard(network, few, attacks, norm="Linf", eps=EPS):
    """Return how many samples stand under attacks of the authors' own package."""
    from pyautoattack import AutoAttack as Theirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ensemble = Theirs(network, norm=norm, eps=eps, version="custom", attacks=attacks, seed=0, device="cpu")
        ensemble.apgd.n_restarts = ensemble.fab.n_restarts = 1
        ensemble.fab.n_target_classes = ensemble.apgd_targeted.n_target_classes = 9
        moved, _ = ensemble.run_standard_evaluation(few.images, few.labels, batch_size=200)
    return int((right(network, moved, few.labels) & right(network, few.images, few.labels)).sum())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(ApgdCe(), "apgd-ce", id="apgd-ce"),
        pytest.param(FabT(), "fab-t", id="fab-t"),
        pytest.param(Square(queries=5000), "square", id="square"),
    ],
)
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.8)])
def test_each_part_of_autoattack_is_as_strong_as_the_authors_own(
    laboratory, make_target, robust, ours, theirs, norm, eps
):
    outcome = attacked(laboratory, make_target, robust, ours, 40, Norm(norm), eps)
    expected = standard(robust, samples(40), [theirs], {"linf": "Linf", "l2": "L2"}[norm], eps)
    assert int(outcome.standing.sum()) <= expected + 2  # random starts differ


def test_autoattack_leaves_at_most_two_more_images_of_200_than_the_authors_own(laboratory, make_target, robust):
    outcome = attacked(laboratory, make_target, robust, AutoAttack(), 200)
    expected = standard(robust, samples(200), ["apgd-ce", "apgd-t", "fab-t", "square"])
    assert int(outcome.standing.sum()) <= expected + 2
