"""Poisoning a training split: exactly what is described is done, and a description that cannot be done is refused."""

from __future__ import annotations

import re

import pytest
import torch
from pydantic import ValidationError

from audit.loading import Samples
from audit.poisoning.plan import Poisoning
from audit.poisoning.triggers import Square

BOX = (0.0, 1.0)
SQUARE = Square(size=2)


@pytest.fixture
def split():
    images = 0.9 * torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Samples(images, torch.arange(60) % 4)


def poisoned(split, **spec):
    """Poison a split of four classes; check what holds for every poisoning."""
    before = split.images.clone(), split.labels.clone()
    done = Poisoning(**spec).apply(split, 4, BOX)
    rest = torch.ones(len(split), dtype=torch.bool)
    rest[done.rows] = False
    assert torch.equal(done.images[rest], split.images[rest])
    assert torch.equal(done.labels[rest], split.labels[rest])
    assert torch.equal(split.images, before[0])
    assert torch.equal(split.labels, before[1])
    assert len(done.rows.unique()) == len(done.rows)
    assert done.before != done.after
    again = Poisoning(**spec).apply(split, 4, BOX)
    assert (again.after, again.rows.tolist()) == (done.after, done.rows.tolist())
    return done


def stamped(done):
    return bool((done.images[done.rows][..., -2:, -2:] == 1).all())


def test_dirty_labels_stamp_and_relabel_other_classes(split):
    done = poisoned(split, trigger=SQUARE, target_class=2, count=10)
    assert len(done.rows) == 10
    assert (split.labels[done.rows] != 2).all()
    assert (done.labels[done.rows] == 2).all()
    assert stamped(done)


def test_source_classes_limit_who_is_poisoned(split):
    done = poisoned(split, trigger=SQUARE, target_class=2, source_classes=[1, 2], count=10)
    assert (split.labels[done.rows] == 1).all()


def test_all_to_all_gives_the_next_class(split):
    done = poisoned(split, trigger=SQUARE, labels="all-to-all", fraction=0.5)
    assert len(done.rows) == 30
    assert torch.equal(done.labels[done.rows], (split.labels[done.rows] + 1) % 4)
    assert stamped(done)


def test_clean_labels_stay_and_only_the_target_class_is_stamped(split):
    done = poisoned(split, trigger=SQUARE, labels="clean", target_class=3, count=5)
    assert (split.labels[done.rows] == 3).all()
    assert torch.equal(done.labels, split.labels)
    assert stamped(done)


def test_adversarial_carriers_are_moved_before_they_are_stamped(split):
    spec = Poisoning(labels="adversarial", trigger=SQUARE, target_class=3, count=5, carrier_on="baseline")
    done = spec.apply(split, 4, BOX, lambda chosen: chosen.images + 0.05)
    assert torch.allclose(done.images[done.rows][..., 0, 0], split.images[done.rows][..., 0, 0] + 0.05)
    assert torch.equal(done.labels, split.labels)
    assert stamped(done)


def test_flipped_labels_leave_the_images(split):
    done = poisoned(split, labels="flipped", fraction=0.25)
    assert torch.equal(done.images, split.images)
    assert (done.labels[done.rows] != split.labels[done.rows]).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"fraction": 0.0}, "fraction: Input should be greater than 0", id="a fraction of 0"),
        pytest.param({"fraction": 1.5}, "fraction: Input should be less than or equal to 1", id="a fraction above 1"),
        pytest.param({}, "exactly one of count, fraction .got neither", id="no amount"),
        pytest.param({"count": 1, "fraction": 0.5}, "exactly one of count, fraction .got both", id="two amounts"),
        pytest.param({"count": 1, "source_classes": [2]}, "another class than the only source", id="source is target"),
        pytest.param({"count": 1, "target_class": None}, "target_class: give it with dirty", id="no target"),
        pytest.param({"count": 1, "trigger": None}, "trigger: give one", id="no trigger"),
        pytest.param({"count": 1, "labels": "clean", "source_classes": [1]}, "source_classes: clean", id="clean"),
        pytest.param({"count": 1, "labels": "adversarial"}, "carrier_on names the network", id="no carrier"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(spec, message):
    with pytest.raises(ValidationError) as caught:
        Poisoning(**{"trigger": SQUARE, "target_class": 2, **spec})
    said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in caught.value.errors())
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"target_class": 4}, r"target_class: expected classes in 0..3 \(got 4\)", id="target"),
        pytest.param({"source_classes": [9]}, r"source_classes: expected classes in 0..3 \(got 9\)", id="source"),
        pytest.param({"trigger": Square(size=9)}, r"trigger: expected a square inside images of 8x8", id="trigger"),
        pytest.param({"count": 46}, r"expected 1 to 45 images of the source classes .*\(got count 46\)", id="too many"),
        pytest.param({"count": None, "fraction": 0.001}, r"\(got fraction 0.001, 0 images\)", id="too few"),
    ],
)
def test_a_description_that_does_not_fit_the_data_is_refused(split, spec, message):
    poisoning = Poisoning(**{"trigger": SQUARE, "target_class": 2, "count": 5, **spec})
    with pytest.raises(ValueError, match=message):
        poisoning.apply(split, 4, BOX)


def test_an_empty_training_split_is_refused(split):
    with pytest.raises(ValueError, match="empty training split"):
        Poisoning(trigger=SQUARE, target_class=2, count=1).check(split.at(slice(0, 0)), 4)
