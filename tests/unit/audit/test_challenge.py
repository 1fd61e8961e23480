"""What challengers that break nothing among the first images leave unseen: the figures that the documents state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from audit.attacks import Pgd
from audit.challenge import Subject, challenge, lost
from audit.loading import Samples
from audit.outcome import Outcome
from audit.records import Knowledge, ThreatModel
from audit.sequential import BELIEVED_FROM

PAGE = " ".join((Path(__file__).parents[3] / "docs/what-the-gate-claims.md").read_text(encoding="utf-8").split())
RUNS = 20_000
SHARES = np.arange(0.0005, 0.0300, 0.0005)
CHALLENGERS = 5  # of an iterated white-box attack: more steps, a restart, Square, a transfer, noise


class Scripted:
    """A laboratory in which Square breaks the images that it is told to, and every other attack none."""

    def __init__(self, broken):
        self.broken, self.workers = broken, SimpleNamespace(side_by_side=lambda pieces: None)

    def clean_logits(self, target, samples):
        """Say nothing: nobody looks."""

    def attacked(self, target, samples, attack, threat_model, seed, crafted_on=None):
        labels = np.zeros(len(samples), dtype=np.int64)
        after = labels.copy()
        if attack.name == "square":
            after[[place for place in self.broken if place < len(samples)]] = 1
        return Outcome({"labels": labels, "before": labels, "after": after}, {}, from_store=False)


def fallen(broken, n):
    """Return how many of n images an audit takes off for what challengers broke."""
    laboratory, samples = Scripted(broken), Samples(torch.zeros(n, 1, 2, 2), torch.zeros(n, dtype=torch.int64))
    threat = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.1)
    target = SimpleNamespace(bounds=(0.0, 1.0), classes=2, digest="sha256:judged")
    attack = Pgd(steps=5)
    subject = Subject(target, attack, threat, laboratory.attacked(target, samples, attack, threat, 0), 0)
    return int(lost(laboratory, subject, samples, challenge(laboratory, subject, samples, None)).sum())


@pytest.mark.parametrize(
    ("broken", "counted"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param(range(BELIEVED_FROM, 1000), 0, id="only images beyond the first"),
        pytest.param([BELIEVED_FROM - 1], 1, id="the last of the first"),
        pytest.param(range(BELIEVED_FROM - 1, 1000), 801, id="one of the first, and the rest"),
    ],
)
def test_a_challenger_counts_on_all_images_or_on_none(broken, counted):
    assert fallen(list(broken), 1000) == counted


def test_the_rule_that_is_simulated_is_the_one_that_audits_follow():
    generator = np.random.default_rng(5)
    for _ in range(20):
        broken = generator.random(1000) < 0.004
        expected = int(broken.sum()) if broken[:BELIEVED_FROM].any() else 0
        assert fallen(broken.nonzero()[0].tolist(), 1000) == expected


def overstated(shares, seed=1):
    """Return by how much the figure is too high, run by run: what the unseen challengers would break of all images.

    Args:
        shares: of the images, that each of some challengers breaks; no two break the same one.
        seed: of the simulation.
    """
    generator = np.random.default_rng(seed)
    rest = 1 - sum(shares)
    among_the_first = generator.multinomial(BELIEVED_FROM, [*shares, rest], size=RUNS)[:, :-1]
    return ((among_the_first == 0) * np.array(shares)).sum(axis=1)


def in_nineteen_of_twenty(challengers):
    """Return the greatest overstatement, over all shares, that one audit in twenty reaches."""
    return max(float(np.quantile(overstated([q] * challengers), 0.95, method="higher")) for q in SHARES)


def test_one_challenger_goes_unseen_with_at_most_one_and_a_half_points():
    assert in_nineteen_of_twenty(1) == pytest.approx(0.015, abs=0.0006)
    assert pytest.approx(0.0149, abs=0.0001) == 1 - 0.05 ** (1 / BELIEVED_FROM), "in closed form"
    assert "at most 1.5 points above" in PAGE
    assert "**The interval does not include this.**" in PAGE


def test_on_average_a_challenger_goes_unseen_with_a_fifth_of_a_point():
    worst = max(float(overstated([q]).mean()) for q in SHARES)
    assert worst == pytest.approx(0.0018, abs=0.0001)
    assert "at the worst share, 0.2 points" in PAGE


def test_challengers_that_break_different_images_go_unseen_with_more():
    worst = in_nineteen_of_twenty(CHALLENGERS)
    assert f"reach {100 * worst:.1f} points" in PAGE
    assert worst > in_nineteen_of_twenty(1)


@pytest.mark.parametrize(("share", "stated"), [(0.005, 37), (0.01, 13), (0.015, 5), (0.02, 2)])
def test_how_often_a_challenger_goes_unseen_is_as_stated(share, stated):
    assert 100 * float((overstated([share]) > 0).mean()) == pytest.approx(stated, abs=0.75)
    assert f"| {100 * share:g} % | in {stated} %" in PAGE
