"""The contract of a target: each breach is an error that says the remedy; odd but honest targets pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audit.attacks import AutoAttack, Pgd
from audit.builtin import Constant, fit_undefended
from audit.contract import check, check_data
from audit.errors import TargetError
from audit.loading import Samples
from audit.local import wrap_network
from audit.records import Knowledge, ThreatModel
from tests.unit import nets, toy


class Net(nn.Module):
    """A linear network for any number of channels and any size, with something done to its output."""

    def __init__(self, shape, classes, after=lambda x, y: y):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.linear, self.after = nn.Linear(int(torch.tensor(shape).prod()), classes), after

    def forward(self, x):
        return self.after(x, self.linear(x.flatten(1)))


class BatchNormed(nn.Module):
    """Normalises by the batch, in eval mode too."""

    def forward(self, x):
        flat = x.flatten(1)[:, :2]
        return (flat - flat.mean(0)) / flat.std(0, correction=0).clamp(min=1e-6)


def images(shape, n=40, classes=2):
    return Samples(torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)), torch.arange(n) % classes)


def target(network, classes=2, draws=1, bounds=(0.0, 1.0)):
    return wrap_network("mine", network, classes=classes, bounds=bounds, device=torch.device("cpu"), draws=draws)


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        pytest.param((1, 28, 28), 10, id="grey"),
        pytest.param((3, 32, 32), 10, id="colour"),
        pytest.param((1, 7, 13), 2, id="odd size, two classes"),
        pytest.param((4, 5, 5), 3, id="four channels, three classes"),
    ],
)
def test_honest_targets_of_any_shape_pass_and_can_be_attacked(laboratory, shape, classes):
    samples = images(shape, n=12, classes=classes)
    mine = target(Net(shape, classes), classes)
    check_data("mine", samples, (0.0, 1.0), classes, shape)
    check(mine, samples)
    budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.1)
    for attack in (
        Pgd(steps=3, step_size=0.05),
        *(stage for stage in AutoAttack().stages(classes) if stage.name != "square"),
    ):
        assert len(laboratory.attacked(mine, samples, attack, budget, seed=0)) == 12


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(Net((1, 6, 6), 3), r"expected logits of shape \(32, 2\), got \(32, 3\)", id="classes"),
        pytest.param(Net((1, 5, 5), 2), "the network must accept the data's shape", id="input shape"),
        pytest.param(Net((1, 6, 6), 2, lambda x, y: (y, y)), "got tuple", id="a tuple"),
        pytest.param(Net((1, 6, 6), 2, lambda x, y: y.softmax(1)), "remove the softmax", id="probabilities"),
        pytest.param(Net((1, 6, 6), 2, lambda x, y: y / 0 * 0), "got NaN", id="not a number"),
        pytest.param(
            Net((1, 6, 6), 2, lambda x, y: y.masked_fill(y == y.amax(1, keepdim=True), torch.inf)),
            "got NaN or infinity",
            id="infinite",
        ),
        pytest.param(Net((1, 6, 6), 2, lambda x, y: y + torch.randn_like(y)), "declare it with draws: 10", id="random"),
        pytest.param(BatchNormed(), "not by those of the batch", id="batch statistics"),
        pytest.param(Net((1, 6, 6), 2, lambda x, y: y.missing), "got AttributeError", id="broken"),
    ],
)
def test_a_breach_is_an_error_that_says_the_remedy(network, message):
    with pytest.raises(TargetError, match=message):
        check(target(network), images((1, 6, 6)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"bounds": (0.2, 0.8)}, r"expected pixels in its bounds \[0.2, 0.8\], but the data have", id="bounds"
        ),
        pytest.param({"classes": 1}, r"expected labels in 0\.\.0, but the data have 1", id="classes"),
        pytest.param({"shape": (3, 6, 6)}, r"expected images of shape \(3, 6, 6\) .input_shape.", id="input shape"),
    ],
)
def test_data_that_contradict_the_target_are_refused(change, message):
    stated = {"bounds": (0.0, 1.0), "classes": 2, "shape": (1, 6, 6)} | change
    with pytest.raises(TargetError, match=message):
        check_data("mine", images((1, 6, 6)), **stated)


def test_a_randomised_target_that_declares_itself_is_judged_over_draws():
    network = Net((1, 6, 6), 2, lambda x, y: y + 0.1 * torch.randn_like(y))
    declared, samples = target(network, draws=10), images((1, 6, 6))
    check(declared, samples)
    before = torch.get_rng_state()
    assert torch.equal(declared.all_logits(samples.images), declared.all_logits(samples.images))
    assert torch.equal(torch.get_rng_state(), before)
    few = samples.images[:3].to(declared.device)
    assert not torch.equal(declared.logits(few), declared.logits(few)), "an attack sees other draws each time"


def test_a_confident_network_behind_draws_keeps_its_gradients():
    """Clamped probabilities once hid the gradients of whatever was surer than one in 10^12."""
    confident = target(Net((1, 6, 6), 2, lambda x, y: 200 * y), draws=2)
    x = images((1, 6, 6)).images[:8].clone().requires_grad_()
    logits = confident.logits(x)
    assert float((logits[:, 0] - logits[:, 1]).detach().abs().max()) > 30
    (slope,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)
    assert (slope.flatten(1) != 0).any(1).all()


def test_passes_are_counted():
    mine, x = target(Net((1, 6, 6), 2)), images((1, 6, 6)).images
    mine.predict(x)
    mine.logits(x[:5].requires_grad_()).sum().backward()
    assert (mine.passes.forward, mine.passes.gradient) == (45, 5)


def test_the_constant_control_is_right_by_chance_only(samples):
    assert (target(Constant(2, answer=0)).predict(samples.images) == 0).all()


def test_the_undefended_control_learns_and_falls(laboratory):
    training, held_out = nets.digits()
    control = target(fit_undefended(training, 10, torch.device("cpu")), 10)
    few = held_out.subset(100)
    budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.2)
    outcome = laboratory.attacked(control, few, Pgd(steps=20, step_size=0.025), budget, seed=0)
    assert (outcome.before == outcome.labels).mean() > 0.9
    assert outcome.standing.mean() < 0.3


@pytest.mark.parametrize("few", [None, "one class"])
def test_too_little_data_for_the_undefended_control_is_said(few):
    split = toy.data(offline=True).audit
    held_out = None if few is None else Samples(split.images, split.labels).where(split.labels == 0)
    with pytest.raises(TargetError, match="expected at least 20 images of every class that are not judged, got 0"):
        fit_undefended(held_out, 2, torch.device("cpu"))
