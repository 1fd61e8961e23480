"""Each liar is caught by the probe meant for it; the honest network by none."""

from __future__ import annotations

import pytest

from audit.attacks import Fgsm
from audit.probes import examine_health
from audit.records import Knowledge, Norm, ThreatModel
from tests.unit import toy

BUDGET = ThreatModel(goal="untargeted", knowledge=Knowledge.WHITE_BOX, norm=Norm.LINF, eps=0.1)


def failed(laboratory, target, samples):
    outcome = laboratory.attacked(target, samples, Fgsm(), BUDGET, seed=0)
    return {probe.name for probe in examine_health(laboratory, target, samples, BUDGET, outcome, 0) if not probe.passed}


def test_honest_network_passes_every_probe(laboratory, make_target, samples):
    assert failed(laboratory, make_target(toy.honest()), samples) == set()


@pytest.mark.parametrize(
    ("network", "probe"),
    [
        pytest.param(toy.probabilities, "logits", id="probabilities instead of logits"),
        pytest.param(toy.noisy, "deterministic", id="random output"),
        pytest.param(toy.masked, "gradients", id="rounded input"),
    ],
)
def test_liar_is_caught_by_the_probe_meant_for_it(laboratory, make_target, samples, network, probe):
    assert probe in failed(laboratory, make_target(network()), samples)


def test_an_attack_weaker_than_noise_is_noticed(laboratory, make_target, samples):
    fragile = make_target(toy.fragile())
    untouched = laboratory.clean(fragile, samples)
    names = {
        probe.name for probe in examine_health(laboratory, fragile, samples, BUDGET, untouched, 0) if not probe.passed
    }
    assert names == {"stronger than noise"}
