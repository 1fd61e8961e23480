"""Data at the edge: whatever a factory returns is checked before anything is judged on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audit import progress
from audit.errors import DataError
from audit.loading import Samples, load_dataset
from tests.unit import toy


def broken(monkeypatch, images=None, labels=None):
    data = toy.data(offline=True)
    split = data.audit
    split = replace(split, images=split.images if images is None else images(split.images))
    split = replace(split, labels=split.labels if labels is None else labels(split.labels))
    monkeypatch.setattr(toy, "data", lambda *, offline: replace(data, audit=split))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"images": lambda x: x[0]}, r"expected images \(N, C, H, W\) float32", id="one image"),
        pytest.param({"images": lambda x: x.double()}, "expected images .* got .* torch.float64", id="float64"),
        pytest.param({"images": lambda x: x / 0}, "expected finite pixels", id="infinite"),
        pytest.param({"labels": lambda y: y[1:]}, r"expected labels \(400,\) int64, got \(399,\)", id="one label less"),
        pytest.param({"labels": lambda y: y.int()}, "expected labels .* got .* torch.int32", id="int32"),
        pytest.param({"labels": lambda y: y + 1}, r"all in 0\.\.1", id="label out of range"),
    ],
)
def test_malformed_data_are_refused(monkeypatch, change, message):
    broken(monkeypatch, **change)
    with pytest.raises(DataError, match=message):
        load_dataset("tests.unit.toy:data", offline=True)


def test_something_that_is_no_dataset_is_refused(monkeypatch):
    monkeypatch.setattr(toy, "data", lambda *, offline: None)
    with pytest.raises(DataError, match=r"tests\.unit\.toy:data: AttributeError"):
        load_dataset("tests.unit.toy:data", offline=True)


def test_empty_data_are_refused(monkeypatch):
    broken(monkeypatch, images=lambda x: x[:0], labels=lambda y: y[:0])
    with pytest.raises(DataError, match="expected at least one label"):
        load_dataset("tests.unit.toy:data", offline=True)


def test_subset_is_random_fixed_and_without_repetition():
    samples = Samples(torch.arange(100.0).view(100, 1, 1, 1), torch.arange(100))
    first, second = samples.subset(30), samples.subset(30)
    assert torch.equal(first.labels, second.labels)
    assert len(set(first.labels.tolist())) == 30
    assert first.labels.tolist() != list(range(30))
    assert torch.equal(first.images.flatten().long(), first.labels)
    assert samples.subset(None) is samples
    assert samples.subset(500) is samples


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
    assert lines == ["attacked 500 of 1,000 samples"]
