"""Detectors: planted poison is found and clean data are left alone; ART's are shown for what they are."""

from __future__ import annotations

import pytest
import torch

from audit.errors import TargetError
from audit.loading import Samples
from audit.poisoning import detectors
from audit.poisoning.detectors import ACTIVATIONS, DETECTORS, DUPLICATES, OURS, SPECTRAL
from audit.poisoning.plan import Poisoning
from tests.unit.audit.poisoning.conftest import COUNT, fitted


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    monkeypatch.setattr(detectors, "FITTING_STEPS", 200)


@pytest.fixture
def detect(make_target):
    def run(network, samples):
        return detectors.detect(make_target(network), samples, lambda *_: None)

    return run


def test_planted_poison_is_found(detect, backdoored_network, poisoned):
    found = detect(backdoored_network, poisoned.samples).against(poisoned.rows)
    assert found["planted"] == COUNT
    assert found["recall"] >= 0.95
    assert found["precision"] >= 0.5


def test_clean_data_are_left_alone(detect, clean_networks, split):
    for network in clean_networks:
        found = detect(network, split)
        assert float(found.flagged.float().mean()) < 0.01


def test_poison_with_right_labels_is_not_found_and_that_is_said(detect, split):
    plan = Poisoning(labels="clean", trigger={"kind": "pixel", "row": 5, "column": 5}, target_class=2, count=COUNT)
    done = plan.apply(split, 4, (0.0, 1.0))
    assert detect(fitted(done.samples), done.samples).against(done.rows)["recall"] == 0.0


def test_every_detector_is_counted_against_the_planted_rows(detect, backdoored_network, poisoned):
    found = detect(backdoored_network, poisoned.samples)
    table = {name: found.against(poisoned.rows, name) for name in DETECTORS}
    assert table[OURS]["recall"] >= 0.95
    assert table[DUPLICATES]["flagged"] == 0
    assert table[DUPLICATES]["precision"] is None
    assert table[ACTIVATIONS]["flagged"] > COUNT  # it takes the smaller cluster of every class
    assert 0 < table[SPECTRAL]["flagged"] <= 20  # it takes a share of every class, whatever is in it
    assert sum(flagged for _, flagged, _ in found.shares()) == int(found.flagged.sum())


def test_identical_images_with_other_labels_are_flagged():
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    images[1], images[3], images[5] = images[0], images[2], images[2]
    flags = detectors.contradicting_duplicates(Samples(images, torch.tensor([0, 0, 1, 2, 3, 1])))
    assert flags.tolist() == [False, False, True, True, False, True]


def test_a_class_with_too_few_images_is_an_error(detect, clean_networks, split):
    few = split.at(
        torch.cat((torch.nonzero(split.labels != 3).flatten(), torch.nonzero(split.labels == 3).flatten()[:5]))
    )
    with pytest.raises(TargetError, match=r"at least 20 images of every class .* got 5 of class 3"):
        detect(clean_networks[0], few)


def test_features_are_the_input_of_the_last_linear_layer(make_target, clean_networks, split):
    target = make_target(clean_networks[0])
    features = detectors.features_of(target, split.images[:300])
    assert features.shape == (300, 16)
    assert torch.allclose(target.network[-1](features), target.all_logits(split.images[:300]), atol=1e-5)


def test_a_network_without_a_linear_layer_is_seen_through_its_logits(make_target, split):
    class Quarters(torch.nn.Module):
        classes = 4

        def forward(self, x):
            return torch.nn.functional.avg_pool2d(x, 3).flatten(1)

    assert detectors.features_of(make_target(Quarters()), split.images[:7]).shape == (7, 4)


def test_a_detection_is_taken_from_the_store(laboratory, make_target, backdoored_network, poisoned):
    target = make_target(backdoored_network)
    first = detectors.detected(laboratory, target, poisoned.samples)
    asked = target.passes.copy()
    again = detectors.detected(laboratory, target, poisoned.samples)
    assert torch.equal(first.flagged, again.flagged)
    assert first.parts == again.parts
    assert target.passes.since(asked).forward <= 50
