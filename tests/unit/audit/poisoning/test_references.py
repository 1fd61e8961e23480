"""Reference networks: what is pinned of them is what training gives, and is not used where it may not hold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from audit.building import build
from audit.errors import PolicyError
from audit.loading import load_dataset
from audit.poisoning import references
from audit.poisoning.references import Asked, Pins, Reference
from audit.poisoning.triggers import Pixel, Square
from audit.poisoning.unknown import FITTED_AND_COUNTED, SEEDS
from audit.policy import load_policy
from audit.requirements import CureRequirement, InversionRequirement, TriggerRequirement
from audit.target import Blueprint
from audit.trial import samples_digest
from model_under_test import train
from tests.unit import toy

ROOT = Path(__file__).parents[4]
PINS = ROOT / "policies/pins"
CORNER, ELSEWHERE = Pixel(row=5, column=5), Pixel(row=0, column=0)
STEPS = 20


@pytest.fixture
def reference(laboratory, make_target):
    """Give an honest network as a reference that nothing is pinned of."""
    return Reference("honest", toy.CLASSES, laboratory, lambda: make_target(toy.honest(), "honest"))


@pytest.fixture
def pinned(reference, samples):
    """Give what it contributes to one trigger and one inversion."""
    return Asked(((CORNER, samples),), ((samples, STEPS, 0),)).of(reference, 101, "0" * 64)


def test_pinned_counts_hold_in_whatever_order_the_images_come(laboratory, pinned, samples):
    """The order of an audit is its own, so a pin that held in one order only would never be used."""
    known = Reference("honest", toy.CLASSES, laboratory, refuses, pinned)
    assert known.rates(samples.subset(None, seed=5), CORNER) == known.rates(samples, CORNER)
    assert known.right(samples.subset(None, seed=6)) == known.right(samples)


def refuses():
    raise AssertionError("trained although everything was pinned")


def test_what_is_pinned_is_what_the_network_gives_and_needs_no_training(laboratory, reference, pinned, samples):
    known = Reference("honest", toy.CLASSES, laboratory, refuses, pinned)
    assert known.rates(samples, CORNER) == reference.rates(samples, CORNER)
    assert known.right(samples) == reference.right(samples)
    assert known.smallest_trigger(samples, STEPS, 0) == pytest.approx(reference.smallest_trigger(samples, STEPS, 0))


@pytest.mark.parametrize(
    "ask",
    [
        lambda one, samples: one.rates(samples, ELSEWHERE),
        lambda one, samples: one.rates(samples.subset(50), CORNER),
        lambda one, samples: one.right(samples.subset(50)),
        lambda one, samples: one.smallest_trigger(samples, STEPS + 1, 0),
        lambda one, samples: one.smallest_trigger(samples, STEPS, 1),
    ],
    ids=["another trigger", "other images", "accuracy on other images", "other steps", "another seed"],
)
def test_what_nobody_pinned_is_asked_of_the_network(laboratory, pinned, samples, ask):
    known = Reference("honest", toy.CLASSES, laboratory, refuses, pinned)
    with pytest.raises(AssertionError, match="trained although"):
        ask(known, samples)


def test_pins_survive_their_file(tmp_path, pinned):
    pins = Pins(recipe="baseline", training="sha256:t", counted_by="sha256:c", networks=(pinned,))
    references.write(tmp_path / "pins.json", pins)
    assert references.read(tmp_path / "pins.json") == pins
    assert pins.of(101) == pinned
    assert pins.of(102) is None


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 1, "networks": "many"}'], ids=["empty", "{}", "bad"])
def test_a_file_that_holds_no_pins_is_refused(tmp_path, content):
    (tmp_path / "pins.json").write_text(content, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"pins\.json: .*; write it anew with python -m audit pin-references"):
        references.read(tmp_path / "pins.json")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"recipe": "other"}, "they are of the recipe other, not baseline"),
        ({"training": "sha256:other"}, "recipe, data or training code are others"),
        ({"counted_by": "sha256:other"}, "the code that counts is another"),
        ({}, None),
    ],
    ids=["recipe", "training", "counting", "nothing"],
)
def test_pins_do_not_hold_where_a_digest_differs(changed, reason):
    right = {"recipe": "baseline", "training": "sha256:t", "counted_by": references.counted_by(), "networks": ()}
    assert references.outdated(Pins.model_validate(right | changed), "baseline", "sha256:t") == reason


def test_comments_and_docstrings_do_not_count_as_code(tmp_path):
    texts = {
        "plain": "def f(x):\n    return x + 1\n",
        "told": '"""Module."""\n\n\ndef f(x):\n    """Add one."""\n    return x + 1  # one\n',
        "changed": "def f(x):\n    return x + 2\n",
    }
    digests = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        digests[name] = references.code_digest([tmp_path / name])
    assert digests["plain"] == digests["told"] != digests["changed"]


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_released_pins_are_of_this_recipe_data_and_code(name):
    pins = references.read(PINS / f"{name}-references.json")
    folder = ROOT / "model_under_test" / {"mnist": "release", "digits": "release_digits"}[name]
    manifest = json.loads((folder / f"{name}-hardened.json").read_text(encoding="utf-8"))
    data = SimpleNamespace(name=name, digest=manifest["data_digest"])
    assert references.outdated(pins, "baseline", train.training_digest("baseline", data)) is None, (
        "make them anew: python -m audit pin-references --policy ..."
    )


@pytest.fixture(scope="module")
def digits():
    return load_dataset("model_under_test.data:digits", ROOT, offline=True)


def test_everything_that_the_digits_policy_asks_of_its_references_is_pinned(digits):
    policy = load_policy(ROOT / "policies/digits.yaml", ROOT).policy
    pins = references.read(PINS / "digits-references.json")
    everything = references.images_digest(digits.audit.subset(None))
    asked = 0
    for one in policy.requirements:
        if not isinstance(one, TriggerRequirement | CureRequirement | InversionRequirement):
            continue
        poison = policy.targets["poisoned"].poison
        for seed in range(101, 101 + one.reference_networks.count):
            network = pins.of(seed)
            if isinstance(one, InversionRequirement):
                wanted = (samples_digest(digits.audit.subset(FITTED_AND_COUNTED)), one.steps, SEEDS[0])
                assert wanted in [(each.samples, each.steps, each.seed) for each in network.inversions]
            else:
                for trigger in one.triggers if isinstance(one, TriggerRequirement) else [poison.trigger]:
                    assert (trigger, everything) in [(each.trigger, each.samples) for each in network.rates]
                assert everything in [each.samples for each in network.accuracies]
            asked += 1
    assert asked == 3 + 10 + 3


def test_pinned_counts_are_what_training_gives(digits, laboratory, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_AUDIT_CACHE", str(tmp_path))
    pinned = references.read(PINS / "digits-references.json").of(101)
    made = train.obtain("baseline", digits.source.value, device="cpu", seed=101)
    blueprint = Blueprint(
        name="again",
        root=ROOT,
        classes=10,
        bounds=(0.0, 1.0),
        factory="model_under_test.network:build",
        weights=made.path,
        sha256=made.sha256,
    )
    target = build(blueprint, torch.device("cpu"))
    again = Reference("again", 10, laboratory, lambda: target)
    everything = digits.audit.subset(None)
    # another kind of processor, or another release of torch, rounds otherwise: then about the same must come out
    off = 0 if made.sha256 == pinned.weights_sha256 else 1
    assert abs(again.right(everything) - pinned.accuracies[0].right) <= off * 0.02 * len(everything)
    shown = 0
    for one in pinned.rates[:4]:
        assert isinstance(one.trigger, Square | Pixel)
        for rate, hits, n in zip(again.rates(everything, one.trigger), one.hits, one.n, strict=True):
            assert rate.n == n
            assert abs(rate.hits - hits) <= off * max(8, 0.05 * n)
            shown += hits
    assert shown > 0
    (inverted,) = pinned.inversions
    images = digits.audit.subset(FITTED_AND_COUNTED)
    found = again.smallest_trigger(images, inverted.steps, inverted.seed)
    assert found == pytest.approx(inverted.smallest, rel=0.5 if off else 1e-3)
