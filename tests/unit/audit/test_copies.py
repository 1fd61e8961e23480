"""Images that are there several times: judged once, not at all if trained on, and refused where they are many."""

from __future__ import annotations

import pytest
import torch

from audit.copies import copies_in
from audit.errors import DataError
from audit.loading import Dataset, Samples, load_dataset
from tests.unit import toy
from tests.unit.audit.conftest import ROOT


def dataset(audit, training=None):
    return Dataset("mine", 2, "sha256:mine", audit, training, None, None)


def toys(n=400, repeats=0):
    """Return ``n`` toy images, and the first ``repeats`` of them once more at the end."""
    whole = toy.data(offline=True, n=n).audit
    rows = torch.cat((torch.arange(n), torch.arange(repeats)))
    return Samples(whole.images[rows], whole.labels[rows])


def others(n=100):
    """Return images that the toys do not hold."""
    some = toys(n)
    return Samples(1 - some.images, some.labels)


def with_first(part, count, rest):
    """Return ``count`` samples of ``part``, then the rest."""
    images, labels = torch.cat((part.images[:count], rest.images)), torch.cat((part.labels[:count], rest.labels))
    return Samples(images, labels)


def test_twenty_images_repeated_fifty_times_are_no_thousand_images():
    few = toys(20)
    thousand = Samples(few.images.repeat(50, 1, 1, 1), few.labels.repeat(50))
    with pytest.raises(DataError, match=r"expected images that differ, got 980 of 1,000 that repeat another one byte"):
        copies_in(dataset(thousand))


def test_a_test_split_that_is_the_training_split_is_refused():
    whole = toys()
    with pytest.raises(DataError, match=r"that nobody trained on, got 400 of 400 that are in the training split byte"):
        copies_in(dataset(whole, whole))


def test_what_was_trained_on_is_found_wherever_it_lies_and_however_it_is_labelled():
    whole = toys()
    relabelled = Samples(whole.images[100:110].flip(0), 1 - whole.labels[100:110])
    with pytest.raises(DataError, match="got 10 of 400"):
        copies_in(dataset(whole, with_first(relabelled, 10, others())))


def test_a_few_repeats_are_left_out_and_said():
    whole = toys(repeats=3)
    found = copies_in(dataset(whole, others()))
    assert (found.n, found.repeats, found.trained_on, len(found.judged)) == (403, 3, 0, 400)
    assert found.judged.index.tolist() == list(range(400)), "the first of each stays, at its place in the split"
    assert list(found.notes()) == ["3 of 403 audit images repeat another one byte for byte: each is judged once"]


def test_a_few_training_images_are_left_out_and_said():
    whole = toys()
    found = copies_in(dataset(whole, with_first(whole, 4, others())))
    assert (found.repeats, found.trained_on, len(found.judged)) == (0, 4, 396)
    assert found.judged.index.tolist() == list(range(4, 400))
    assert list(found.notes()) == ["4 of 400 audit images are training images too, byte for byte: not judged"]


def test_one_per_cent_may_and_more_may_not():
    whole = toys()
    assert copies_in(dataset(whole, with_first(whole, 4, others()))).trained_on == 4
    with pytest.raises(DataError, match="got 5 of 400"):
        copies_in(dataset(whole, with_first(whole, 5, others())))


def test_without_a_training_split_the_report_says_that_nobody_could_look():
    found = copies_in(dataset(toys()))
    assert found.trained_on is None
    assert [note for note in found.notes() if "could not be looked at" in note]


def test_images_that_differ_by_a_grey_level_are_not_the_same():
    whole = toys(repeats=400)
    whole.images[400:] += 1 / 255
    assert copies_in(dataset(whole)).repeats == 0


def test_the_digits_hold_no_image_twice_and_nothing_that_was_trained_on():
    found = copies_in(load_dataset("model_under_test.data:digits", ROOT, offline=True))
    assert (found.n, found.repeats, found.trained_on) == (820, 0, 0)
    assert not list(found.notes())


def test_an_audit_on_repeated_images_is_a_usage_error(toy_audit):
    toy_audit.policy["dataset"] = "tests.unit.toy:repeated"
    result = toy_audit.audit("--only", "PERF-001")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*DataError: dataset toy: audit split: expected images that differ, got 980 of 1,000*"]
    )


def test_n_counts_the_images_that_differ(toy_audit, monkeypatch):
    few_more = toys(repeats=3)
    monkeypatch.setattr(toy, "data", lambda *, offline: toy.Data(toy.Split(few_more.images, few_more.labels)))
    toy_audit.audit("--only", "PERF-001", "EVA-001")
    report = toy_audit.report()
    for verdict in report["verdicts"]:
        measured = verdict["measurement"]
        assert (measured["n"], measured["settings"]["repeats_left_out"]) == (400, 3)
    assert report["policy"]["data"] == {"images": 403, "repeats": 3, "trained_on": None, "judged": 400}
    page = (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "of 403 images 3 repeat another byte for byte, and it could not be looked at" in page
