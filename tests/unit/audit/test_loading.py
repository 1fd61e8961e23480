"""Data at the edge: whatever a factory returns is checked before anything is judged on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from audit import progress
from audit.errors import DataError, PolicyError
from audit.loading import Samples, load_dataset, resolve
from tests.unit import toy

ROOT = Path(__file__).parents[3]


def load(reference="tests.unit.toy:data"):
    return load_dataset(reference, ROOT, offline=True)


def broken(monkeypatch, images=None, labels=None):
    data = toy.data(offline=True)
    split = data.audit
    split = replace(split, images=split.images if images is None else images(split.images))
    split = replace(split, labels=split.labels if labels is None else labels(split.labels))
    monkeypatch.setattr(toy, "data", lambda *, offline: replace(data, audit=split))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"images": lambda x: x[0]}, r"expected images \(N, C, H, W\) of floating point", id="one image"),
        pytest.param({"images": lambda x: (x * 255).byte()}, "images / 255", id="bytes"),
        pytest.param({"images": lambda x: x / 0}, "expected finite pixels", id="infinite"),
        pytest.param(
            {"labels": lambda y: y[1:]}, r"expected labels \(400,\) of integers, got \(399,\)", id="one label less"
        ),
        pytest.param(
            {"labels": lambda y: y.float()}, "expected labels .* of integers, got .* torch.float32", id="float"
        ),
        pytest.param({"labels": lambda y: y + 1}, r"expected labels in 0\.\.1, got 2", id="label out of range"),
        pytest.param({"labels": lambda y: y - 1}, "none below 0", id="label below 0"),
    ],
)
def test_malformed_data_are_refused(monkeypatch, change, message):
    broken(monkeypatch, **change)
    with pytest.raises(DataError, match=message):
        load()


def test_something_that_is_no_dataset_is_refused(monkeypatch):
    monkeypatch.setattr(toy, "data", lambda *, offline: None)
    with pytest.raises(DataError, match=r"tests\.unit\.toy:data: AttributeError"):
        load()


def test_empty_data_are_refused(monkeypatch):
    broken(monkeypatch, images=lambda x: x[:0], labels=lambda y: y[:0])
    with pytest.raises(DataError, match="expected at least one label"):
        load()


def test_subset_is_random_fixed_and_without_repetition():
    samples = Samples(torch.arange(100.0).view(100, 1, 1, 1), torch.arange(100))
    first, second = samples.subset(30), samples.subset(30)
    assert torch.equal(first.labels, second.labels)
    assert len(set(first.labels.tolist())) == 30
    assert first.labels.tolist() != list(range(30))
    assert torch.equal(first.images.flatten().long(), first.labels)
    assert torch.equal(first.index, first.labels)
    whole = samples.subset(None)
    assert torch.equal(whole.labels[:30], first.labels)
    assert torch.equal(samples.subset(500).labels, whole.labels)
    assert samples.subset(30, seed=5).labels.tolist() != first.labels.tolist()
    assert sorted(whole.labels.tolist()) == list(range(100))


class Terminal:
    """Collects what is written to it."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere(monkeypatch):
    terminal, lines = Terminal(), []
    bar = progress.Ticker(terminal, lines.append)
    bar(500, 1000)
    bar(1000, 1000)
    assert "0/1000" in terminal.text
    assert lines == []
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    progress.Ticker(None, lines.append)(500, 1000)
    assert lines == ["500 of 1,000 done"]


def test_a_pair_of_arrays_is_a_dataset():
    dataset = load("tests.unit.toy:pair")
    assert (dataset.name, dataset.classes, len(dataset.audit)) == ("tests.unit.toy:pair", 2, 50)
    assert dataset.digest.startswith("sha256:")
    assert dataset.audit.images.dtype == torch.float32
    assert dataset.audit.labels.dtype == torch.int64
    assert dataset.fitting is None


def test_what_is_held_out_for_fitting_is_not_judged():
    dataset = load().held_out(seed=5)
    assert (len(dataset.audit), len(dataset.fitting)) == (320, 80)
    assert not set(dataset.audit.index.tolist()) & set(dataset.fitting.index.tolist())


def test_whoever_does_not_know_the_seed_does_not_know_what_is_held_out():
    """The share that is left out of every figure was a fixed one: hard images could be put there."""
    first, second = (set(load().held_out(seed).fitting.index.tolist()) for seed in (5, 6))
    assert 0 < len(first & second) < 40


def test_the_digest_is_that_of_all_the_data_whatever_is_held_out():
    pair = load("tests.unit.toy:pair")
    assert pair.held_out(5).digest == pair.digest == pair.held_out(6).digest


def test_a_training_split_is_taken_for_fitting_where_there_is_one(monkeypatch):
    data, more = toy.data(offline=True), toy.data(offline=True, n=90).audit
    monkeypatch.setattr(toy, "data", lambda *, offline: SimpleNamespace(audit=data.audit, training=more))
    dataset = load().held_out(seed=5)
    assert (len(dataset.audit), len(dataset.fitting)) == (400, 90)


def test_a_function_is_found_in_a_file_and_beside_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/net.py").write_text("from beside import answer\n", encoding="utf-8")
    (tmp_path / "mine/beside.py").write_text("def answer():\n    return 42\n", encoding="utf-8")
    assert resolve("mine/net.py:answer", "targets.x.factory", tmp_path)() == 42


@pytest.mark.parametrize("reference", ["none.py:f", "broken.py:f", "empty.py:f"])
def test_a_file_that_cannot_be_used_is_a_policy_error(tmp_path, reference):
    (tmp_path / "broken.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"targets\.x\.factory: expected an importable"):
        resolve(reference, "targets.x.factory", tmp_path)
