"""Data integrity: whatever is changed is found, and named."""

from __future__ import annotations

import pytest
import torch

from audit.errors import PolicyError
from audit.loading import Samples
from audit.poisoning import fingerprints
from audit.poisoning.fingerprints import Fingerprints


@pytest.fixture
def samples():
    images = torch.rand(200, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    return Samples(images, torch.arange(200) % 10)


def named(before, after):
    found = Fingerprints.of(before).differences(Fingerprints.of(after), "training")
    return [(one.rule, one.path) for one in found]


def without(samples, *rows):
    keep = torch.ones(len(samples), dtype=torch.bool)
    keep[list(rows)] = False
    return Samples(samples.images[keep], samples.labels[keep])


def test_unchanged_data_have_no_differences(samples):
    assert named(samples, samples) == []


def test_a_flipped_label_is_named(samples):
    labels = samples.labels.clone()
    labels[123] = 9
    assert named(samples, Samples(samples.images, labels)) == [("label changed", "training[123]")]


def test_one_changed_pixel_is_named(samples):
    images = samples.images.clone()
    images[7, 0, 4, 4] += 1e-6
    assert named(samples, Samples(images, samples.labels)) == [("pixels changed", "training[7]")]


@pytest.mark.parametrize("row", [0, 99, 199])
def test_a_removed_sample_is_named_and_what_follows_does_not_count(samples, row):
    assert named(samples, without(samples, row)) == [("sample removed", f"training[{row}]")]


def test_an_added_sample_is_named(samples):
    assert named(without(samples, 50), samples) == [("sample added", "training[50]")]


def test_several_changes_are_all_named(samples):
    labels = samples.labels.clone()
    labels[10] = 3
    changed = without(Samples(samples.images, labels), 40, 150)
    assert set(named(samples, changed)) == {
        ("label changed", "training[10]"),
        ("sample removed", "training[40]"),
        ("sample removed", "training[150]"),
    }


def test_two_samples_that_changed_places_are_named(samples):
    order = torch.arange(200)
    order[5], order[6] = 6, 5
    assert {path for _, path in named(samples, samples.at(order))} == {"training[5]", "training[6]"}


def test_swapped_and_missing_files_are_named():
    pinned = {"images": "a" * 64, "labels": "b" * 64, "more": "c" * 64}
    found = list(fingerprints.compare_files(pinned, {"images": "b" * 64, "labels": "a" * 64}))
    assert [one.path for one in found] == ["images", "labels", "more"]
    assert found[0].message.endswith("it is labels")
    assert "not there" in found[2].message
    assert not list(fingerprints.compare_files(pinned, dict(pinned)))


def test_what_is_written_is_read(samples, tmp_path):
    path = tmp_path / "pins" / "data.safetensors"
    fingerprints.write(path, {"training": samples, "audit": without(samples, 3)})
    again = fingerprints.read(path)
    assert torch.equal(again["training"].pixels, Fingerprints.of(samples).pixels)
    assert torch.equal(again["audit"].labels, without(samples, 3).labels)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", None])
def test_a_damaged_file_is_a_policy_error(content, tmp_path):
    path = tmp_path / "data.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match="expected fingerprints as python -m audit pin writes them"):
        fingerprints.read(path)
