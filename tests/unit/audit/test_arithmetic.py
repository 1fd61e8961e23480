"""Fused forward passes: the network's own bfloat16 answers, or the network itself where a trace would tell another."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from audit.arithmetic import COMPARED_EVERY, PLAIN_FIRST, Fused, steers
from audit.attacks import Square
from audit.loading import Samples
from audit.local import wrap_network
from audit.records import Knowledge, ThreatModel
from audit.target import known


def network():
    """Return a small network of the usual layers, with fixed random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(8 * 16, 5),
        )  # fmt: skip
    return layers.eval().requires_grad_(False)


def images(count, seed=0):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def plain(one, x):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return one(x)


def answers(fused, x):
    with torch.no_grad():
        return fused.logits(x)


def asked_enough(one):
    """Return a network that was asked often enough to be traced with the next question."""
    fused = Fused(one.eval())
    for _ in range(PLAIN_FIRST):
        answers(fused, images(2))
    return fused


class Counting(nn.Module):
    """Counts how often Python walks through a network; what runs a trace does not."""

    def __init__(self, inner, walks):
        super().__init__()
        self.inner, self.count = inner, lambda: walks.append(1)

    def forward(self, x):
        self.count()
        return self.inner(x)


class Deciding(nn.Module):
    """Goes another way for bright images."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return -self.inner(x) if float(x.mean()) > 0.5 else self.inner(x)


class Pretending(nn.Module):
    """Answers otherwise while it is traced."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) * (0 if torch.jit.is_tracing() else 1)


class Tiring(nn.Module):
    """Answers otherwise from some image on, without a word to the tracer."""

    def __init__(self, inner):
        super().__init__()
        numbers = itertools.count(1)
        self.inner, self.asked = inner, lambda: next(numbers)

    def forward(self, x):
        return self.inner(x) * (1 if self.asked() <= PLAIN_FIRST + 2 else -1)


class Remembering(nn.Module):
    """Is only right for the number of images that it was traced with."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        count = len(x.detach().tolist())
        return self.inner(x).reshape(count, 5)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_fused_answers_are_those_of_the_network_in_bfloat16(count):
    one, x = network(), images(count)
    fused = asked_enough(one)
    assert not fused.fusing
    for _ in range(4):
        found = answers(fused, x).float()
        wanted = plain(one, x).float()
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 0.02 * wanted.abs().max()
    assert fused.fusing


def test_a_fused_network_is_walked_through_for_each_number_of_images_and_from_time_to_time():
    walks = []
    fused = asked_enough(Counting(network(), walks))
    answers(fused, images(4))
    first = len(walks)
    for _ in range(COMPARED_EVERY - 1):
        answers(fused, images(4))
    assert len(walks) == first
    answers(fused, images(4))
    assert len(walks) == first + 1
    answers(fused, images(5))
    assert len(walks) == first + 2


@pytest.mark.parametrize("kind", [Deciding, Pretending, Remembering])
def test_a_network_that_a_trace_would_misrepresent_is_asked_itself(kind):
    one = kind(network())
    fused = asked_enough(one)
    for bright in (0.0, 0.9):
        for count in (4, 4, 7):
            x = (images(count) * 0.1 + bright).clamp(0, 1)
            assert torch.equal(answers(fused, x), plain(one, x))


def test_a_network_that_changes_its_answers_is_found_out():
    one = Tiring(network())
    fused = asked_enough(one)
    for _ in range(COMPARED_EVERY + 1):
        answers(fused, images(4))
    assert not fused.fusing
    assert torch.equal(answers(fused, images(4)), plain(one, images(4)))


def test_fused_operations_that_go_wrong_are_found_out_before_they_steer():
    one = network()
    fused = asked_enough(one)
    answers(fused, images(4))
    honest, runs = fused._traced, []

    def wrong_once_it_is_fused(x):
        runs.append(1)
        return honest(x) * (1 if len(runs) <= 2 else -1)

    fused._traced = wrong_once_it_is_fused
    assert torch.equal(answers(fused, images(6)), plain(one, images(6)))


def test_an_image_with_great_logits_hides_no_other():
    exact = torch.tensor([[1000.0, 0.0], [1.0, 0.9]])
    assert steers(exact + torch.tensor([[10.0, 0.0], [0.0, 0.01]]), exact)
    assert not steers(exact + torch.tensor([[10.0, 0.0], [0.0, 0.2]]), exact)
    assert not steers(exact[:1], exact)
    assert not steers(exact * torch.nan, exact)


def test_what_is_answered_hangs_on_nothing_before_it_forgot():
    used = asked_enough(network())
    for count in (3, 9, 3, 20):
        answers(used, images(count))
    used.forget()
    fresh = Fused(network())
    for question in range(PLAIN_FIRST + 4):
        x = images(7, seed=question)
        assert torch.equal(answers(used, x), answers(fresh, x))
    assert used.fusing


def test_a_search_by_fused_answers_finds_what_a_search_by_the_network_finds(monkeypatch):
    budget = ThreatModel(goal="any wrong class", knowledge=Knowledge.BLACK_BOX_SCORE, eps=0.08)
    broken, fused = [], []
    for fusing in (True, False):
        target = wrap_network("one", network(), classes=5, bounds=(0.0, 1.0), device=torch.device("cpu"))
        target.exact = False  # as on a processor with bfloat16
        if not fusing:
            monkeypatch.setattr(Fused, "logits", Fused._plain)
        x = images(60)
        samples = Samples(x, target.predict(x))
        found = Square(queries=150).perturb(
            known(target, Knowledge.BLACK_BOX_SCORE), samples, budget, torch.Generator().manual_seed(0)
        )
        fused.append(target._fused.fusing)
        broken.append(target.predict(found.images) != samples.labels)
    assert fused == [True, False]
    both = int((broken[0] & broken[1]).sum())
    assert both >= 5
    assert int((broken[0] ^ broken[1]).sum()) <= 2
