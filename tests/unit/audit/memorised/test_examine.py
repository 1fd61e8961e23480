"""Networks that know the judged images are doubted; honest ones are not, and neither are those of difficult data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from audit.artifacts.weights import load_weights
from audit.builtin import fit_undefended
from audit.loading import SUBSET_SEED, Dataset, Samples, load_dataset
from audit.local import LocalTarget, wrap_network
from audit.memorised import examine
from audit.memorised.examine import CHANGES, COPIES, TRAINING, memorised
from audit.order import Order, Origin
from tests.unit.audit.memorised.conftest import HONEST, released
from tests.unit.audit.memorised.stores import Nearest, orthogonal
from tests.unit.audit.test_own_model import FOREIGN, MNIST, ClaimedRobust, pgd_trained

ROOT = Path(__file__).parents[4]
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST on this machine")


def as_target(network, name="judged"):
    return wrap_network(name, network, classes=10, bounds=(0.0, 1.0), device=torch.device("cpu"))


class Session:
    """What the probes need of an audit's session."""

    def __init__(self, dataset, laboratory):
        self.dataset, self.laboratory, self.memorised, self.fitted = dataset, laboratory, {}, 0
        self.order = Order(seed=SUBSET_SEED, origin=Origin.GIVEN)

    def control_target(self, control):
        self.fitted += 1
        return as_target(fit_undefended(self.dataset.unjudged, 10, torch.device("cpu"), steps=80), "honest")


@pytest.fixture
def session(digits, laboratory):
    """Give a session on the digits."""
    return Session(digits, laboratory)


@pytest.fixture(scope="module")
def mnist():
    """Give MNIST as the audit has it."""
    os.environ.setdefault("MNIST_ROOT", str(MNIST))
    return load_dataset("model_under_test.data:mnist", ROOT, offline=True)


def failed(network, session):
    probes = memorised(as_target(network), session)
    return {probe.name: probe.detail for probe in probes if not probe.passed}


@pytest.mark.parametrize("name", HONEST)
def test_honest_networks_are_not_doubted(session, honest, name):
    assert failed(honest(name), session) == {}
    assert session.fitted == 0, "nothing was lost that an honest network would have to explain"


def test_a_network_that_looks_labels_up_is_doubted_and_told_where(session, digits):
    doubts = failed(nn.Sequential(Nearest(digits.audit.images, digits.audit.labels)), session)
    assert COPIES in doubts
    assert "820 judged images are among them: 0.store has 820" in doubts[COPIES]


def test_answers_that_hold_for_the_very_images_only_are_doubted(session, digits):
    """A turn in the space of pixels hides the store from every comparison, and changes no distance."""
    network = Nearest(digits.audit.images, digits.audit.labels, turn=orthogonal(784), within=0.5)
    doubts = failed(network, session)
    assert set(doubts) == {CHANGES, TRAINING}
    assert "it knows these images, not what they show" in doubts[CHANGES]
    assert "a small honest network: 0." in doubts[CHANGES]


def checkerboards(count, seed):
    """Return images whose class is the phase of a chequered pattern, which a shift by a pixel turns round."""
    labels = torch.arange(count) % 2
    chequered = (torch.arange(28)[:, None] + torch.arange(28)) % 2 * 2.0 - 1
    noise = 0.05 * torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Samples(0.4 + 0.2 * (2 * labels - 1).view(-1, 1, 1, 1) * chequered + noise, labels)


class Phase(nn.Module):
    """An honest network for chequered patterns."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pattern", (torch.arange(28)[:, None] + torch.arange(28)) % 2 * 2.0 - 1)

    def forward(self, x):
        score = ((x - 0.4) * self.pattern).mean((1, 2, 3))
        return torch.stack((-score, score, *[score * 0 - 9] * 8), 1)


def test_where_honest_networks_lose_as_much_nobody_is_doubted(laboratory):
    training = checkerboards(800, 1)
    data = Dataset("chequered", 2, "sha256:chequered", checkerboards(600, 0), training, None, None)

    class Two(Session):
        def control_target(self, control):
            self.fitted += 1
            network = nn.Sequential(fit_undefended(self.dataset.unjudged, 2, torch.device("cpu"), steps=60))
            network.append(nn.ConstantPad1d((0, 8), -9.0))
            return as_target(network, "honest")

    session = Two(data, laboratory)
    probes = {probe.name: probe for probe in memorised(as_target(Phase()), session)}
    assert session.fitted == 1
    assert probes[CHANGES].passed, probes[CHANGES].detail
    assert "1.0000 right, 0." in probes[CHANGES].detail
    assert "a small honest network: " in probes[CHANGES].detail


def test_what_an_honest_network_loses_must_be_known(digits, laboratory):
    def nothing_to_fit(self, control):
        return fit_undefended(self.dataset.unjudged, 10, torch.device("cpu"))

    alone = Session(replace(digits, training=None, fitting=None), laboratory)
    alone.control_target = nothing_to_fit.__get__(alone)
    network = Nearest(digits.audit.images, digits.audit.labels, turn=orthogonal(784), within=0.5)
    probes = memorised(as_target(network), alone)
    assert [probe.name for probe in probes] == [COPIES, CHANGES]
    assert "what an honest network loses is not known: builtin control undefended" in probes[1].detail
    assert not probes[1].passed


class Watching(nn.Module):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown += [one.numpy().tobytes() for one in x]
        return x.flatten(1)[:, :10]


def test_nobody_knows_beforehand_which_images_are_asked_about(session, digits, monkeypatch):
    """In a public order, a network could answer differently about the first 500 only."""
    monkeypatch.setattr(examine, "ASKED", 100)
    session.order, network = Order(seed=5, origin=Origin.GIVEN), Watching()
    memorised(as_target(network), session)
    for split in (digits.audit, digits.training):
        few = split.subset(100, session.order.seed)
        assert {one.numpy().tobytes() for one in few.images} <= set(network.shown)


def test_a_target_is_looked_at_once_a_run(session, honest, monkeypatch):
    first = memorised(as_target(honest("linear")), session)
    monkeypatch.setattr(examine, "find", None)
    assert memorised(as_target(honest("linear")), session) is first


def test_a_probe_that_breaks_is_a_doubt(session, honest, monkeypatch):
    monkeypatch.setattr(LocalTarget, "tensors", lambda target: 1 / 0)
    assert failed(honest("linear"), session) == {COPIES: "ZeroDivisionError: division by zero"}


@needs_mnist
@pytest.mark.parametrize("name", ["released", "claimed", "trained"])
def test_networks_of_mnist_are_not_doubted(mnist, laboratory, name):
    if name != "released" and not FOREIGN.is_dir():
        pytest.skip("no models made elsewhere on this machine")
    network = {"released": lambda: released("mnist"), "claimed": ClaimedRobust, "trained": pgd_trained}[name]()
    if name != "released":
        file = {"claimed": "claimed_robust_cnn.pt", "trained": "pgd_trained_small.pth"}[name]
        network.load_state_dict(load_weights(FOREIGN / file, None))
    assert failed(network, Session(mnist, laboratory)) == {}


@needs_mnist
def test_the_nearest_of_hidden_judged_images_is_better_on_those_than_on_training_images(mnist, laboratory):
    network = Nearest(mnist.audit.images, mnist.audit.labels, turn=orthogonal(784))
    doubts = failed(network, Session(mnist, laboratory))
    assert list(doubts) == [TRAINING], "the nearest image survives a shift by a pixel"
    assert "1.0000 of 500 judged images right" in doubts[TRAINING]


def test_a_memoriser_is_no_longer_met(toy_audit):
    """Measured before: MET with robust accuracy 0.96, by a buffer of the audit split."""
    toy_audit.policy["targets"]["memoriser"] = {"factory": "tests.unit.toy:memoriser"}
    result = toy_audit.audit("--only", "PERF-001", "EVA-001", "--target", "memoriser")
    assert result.ret == 10
    for name in ("PERF-001", "EVA-001"):
        verdict = toy_audit.verdicts()[name]
        assert verdict["status"] == "INCONCLUSIVE"
        assert "judged images are among them: store has" in verdict["reason"]
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "a network that has memorised the judged images in another form is not excluded" in page


def test_an_honest_toy_is_still_met(toy_audit):
    assert toy_audit.audit("--only", "PERF-001", "EVA-001").ret == 0
    probes = toy_audit.verdicts()["EVA-001"]["evidence"]["probes"]
    assert {COPIES, CHANGES} <= {probe["name"] for probe in probes}
