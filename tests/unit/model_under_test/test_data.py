"""Data: pinned, split once and for all, and never replaced in silence."""

from __future__ import annotations

import gzip
import hashlib

import pytest
import torch

from model_under_test import data
from model_under_test.errors import DatasetUnavailable, IntegrityError, RecipeError


def idx(shape, fill):
    """Return IDX bytes of an unsigned byte array."""
    size = 1
    for part in shape:
        size *= part
    return (
        bytes([0, 0, 8, len(shape)])
        + b"".join(part.to_bytes(4, "big") for part in shape)
        + bytes(fill(i) for i in range(size))
    )


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """Make a MNIST_ROOT of a dozen images whose digests are pinned instead of the real ones."""
    raw = tmp_path / "root/MNIST/raw"
    raw.mkdir(parents=True)
    contents = {
        "train-images-idx3-ubyte": idx((12, 28, 28), lambda i: i % 251),
        "train-labels-idx1-ubyte": idx((12,), lambda i: i % 10),
        "t10k-images-idx3-ubyte": idx((5, 28, 28), lambda i: i % 13),
        "t10k-labels-idx1-ubyte": idx((5,), lambda i: 9 - i),
    }
    for name, content in contents.items():
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        monkeypatch.setitem(data.MNIST_FILES, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(data, "MNIST_VALIDATION", 4)
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "root"))
    return raw


def test_mnist_is_split_and_scaled(mnist):
    loaded = data.mnist()
    assert [len(part) for part in (loaded.training, loaded.validation, loaded.audit)] == [8, 4, 5]
    assert loaded.audit.labels.tolist() == [9, 8, 7, 6, 5]
    assert loaded.audit.images.shape == (5, 1, 28, 28)
    assert float(loaded.training.images.max()) == pytest.approx(250 / 255)


def test_root_is_only_read_and_copied_to_the_cache(mnist, cache, monkeypatch):
    before = {path.name: path.read_bytes() for path in mnist.iterdir()}
    first = data.mnist()
    assert {path.name: path.read_bytes() for path in mnist.iterdir()} == before
    monkeypatch.delenv("MNIST_ROOT")
    assert data.mnist(offline=True).digest == first.digest


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda raw: raw[:-5], "Compressed file ended|CRC|end-of-stream", id="truncated"),
        pytest.param(lambda raw: b"", "expected SHA-256|ended|empty", id="empty"),
        pytest.param(lambda raw: b"garbage", "Not a gzipped file", id="no gzip"),
        pytest.param(
            lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"!"), "expected SHA-256 .* got", id="a byte"
        ),
    ],
)
def test_damaged_file_is_an_integrity_error_and_never_a_fallback(mnist, damage, words):
    data.mnist()  # the cache has a good copy by now
    file = mnist / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(IntegrityError, match=words) as caught:
        data.mnist()
    assert str(file) in str(caught.value)
    assert "restore the official file" in str(caught.value)


def test_root_without_the_files_is_an_integrity_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(IntegrityError, match="No such file"):
        data.mnist()


def test_damaged_cache_is_an_integrity_error(mnist, cache, monkeypatch):
    data.mnist()
    file = cache / "data/MNIST/raw/train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"train-labels-idx1-ubyte: expected SHA-256 .* delete"):
        data.mnist()
    monkeypatch.delenv("MNIST_ROOT")
    with pytest.raises(IntegrityError, match=r"train-labels-idx1-ubyte: expected SHA-256 .* delete"):
        data.mnist(offline=True)


def test_no_copy_and_no_network_is_unavailable():
    with pytest.raises(DatasetUnavailable, match="MNIST_ROOT is not set"):
        data.mnist(offline=True)


def test_failed_download_is_unavailable_and_leaves_nothing(cache, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("Error downloading train-images")

    monkeypatch.setattr("torchvision.datasets.MNIST", refuse)
    with pytest.raises(DatasetUnavailable, match="the download failed"):
        data.mnist()
    assert list((cache / "data").iterdir()) == []


def test_tampered_download_is_an_integrity_error_and_no_reason_to_fall_back(monkeypatch):
    def tampered(*arguments, **options):
        raise RuntimeError("Error downloading train-images:\nTried mirror, got:\nFile not found or corrupted.\n")

    monkeypatch.setattr("torchvision.datasets.MNIST", tampered)
    with pytest.raises(IntegrityError, match="does not match its digest"):
        data.mnist()


def test_digits_are_pinned_disjoint_and_stratified():
    loaded = data.digits()
    assert [len(part) for part in (loaded.training, loaded.validation, loaded.audit)] == [827, 150, 820]
    assert loaded.audit.labels.bincount().min() >= 75
    everything = torch.cat([part.images.flatten(1) for part in (loaded.training, loaded.validation, loaded.audit)])
    assert everything.shape == (1797, 784)
    assert float(everything.min()) == 0.0
    assert float(everything.max()) == 1.0
    seen = {row.numpy().tobytes() for row in loaded.training.images}
    assert sum(row.numpy().tobytes() in seen for row in loaded.audit.images) <= 1  # scans that are equal to the pixel


def test_other_digits_than_the_pinned_ones_are_refused(monkeypatch):
    monkeypatch.setattr(data, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(IntegrityError, match=r"load_digits\(\): expected SHA-256 0000"):
        data.digits()


def test_unknown_dataset_is_named():
    with pytest.raises(RecipeError, match="expected one of mnist, digits, got 'svhn'"):
        data.load("svhn")
