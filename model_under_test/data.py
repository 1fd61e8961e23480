"""Datasets with fixed, disjoint, named splits: MNIST, and the small digits bundled with scikit-learn.

Every load checks what it loads: the four MNIST files against pinned SHA-256 digests, the digits against the digest
of the tensor made from them. The bytes that were checked are the bytes that are parsed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from model_under_test import artifact
from model_under_test.errors import DatasetUnavailable, IntegrityError, RecipeError

CACHE_VARIABLE = "MODEL_AUDIT_CACHE"
MNIST_VARIABLE = "MNIST_ROOT"
DOWNLOAD_TIMEOUT_SECONDS = 15.0

# SHA-256 of the four uncompressed IDX files as published by LeCun, Cortes and Burges.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_VALIDATION = 5_000

# SHA-256 of scikit-learn's 1,797 8x8 scans as uint8 pixels (0..16) followed by their labels as uint8.
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
DIGITS_VALIDATION = 150
DIGITS_AUDIT = 820
SPLIT_SEED = 20_240_601


@dataclass(frozen=True, slots=True)
class Split:
    """Images (N, 1, 28, 28) float32 in [0, 1] and their labels (N,) int64 in 0..9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Three disjoint splits: train on the first, choose on the second, judge on the third.

    ``files`` has the SHA-256 of what they were made from, by name.
    """

    name: str
    training: Split
    validation: Split
    audit: Split
    classes: int
    digest: str
    files: dict[str, str] = field(default_factory=dict)


def cache_root() -> Path:
    """Return the git-ignored cache folder: ``$MODEL_AUDIT_CACHE``, else ``.cache`` of the working directory."""
    return Path(os.environ.get(CACHE_VARIABLE) or ".cache")


def load(name: str, *, offline: bool = False) -> Dataset:
    """Load a dataset by name.

    Raises:
        RecipeError: the name is neither ``mnist`` nor ``digits``.
        DatasetUnavailable: MNIST is not on this machine and cannot be downloaded.
        IntegrityError: a file does not match its pinned digest.
    """
    if name == "mnist":
        return mnist(offline=offline)
    if name == "digits":
        return digits(offline=offline)
    raise RecipeError(f"dataset: expected one of mnist, digits, got {name!r}; see model_under_test/data.py")


def mnist(*, offline: bool = False) -> Dataset:
    """Load MNIST from ``$MNIST_ROOT``, else from the cache, else by torchvision's download.

    The training file gives training (55,000) and validation (5,000, fixed random choice); the test file, which no
    recipe ever sees, is the audit split (10,000, in file order).

    Args:
        offline: do not try to download.

    Raises:
        DatasetUnavailable: no copy was found and none could be fetched.
        IntegrityError: a file is damaged, or ``$MNIST_ROOT`` does not hold what it promises.
    """
    raw = _mnist_bytes(offline=offline)
    images, labels = (_idx(raw[f"train-{part}"]) for part in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    training, validation = order[MNIST_VALIDATION:], order[:MNIST_VALIDATION]
    dataset = _dataset(
        "mnist",
        _split(images[training], labels[training]),
        _split(images[validation], labels[validation]),
        _split(_idx(raw["t10k-images-idx3-ubyte"]), _idx(raw["t10k-labels-idx1-ubyte"])),
    )
    return replace(dataset, files={name: hashlib.sha256(content).hexdigest() for name, content in raw.items()})


def digits(*, offline: bool = False) -> Dataset:
    """Load scikit-learn's 1,797 scanned digits, enlarged to 28x28: 827 training, 150 validation, 820 audit images.

    The splits are stratified by class and fixed. ``offline`` makes no difference: nothing is ever downloaded.

    Raises:
        IntegrityError: the installed scikit-learn carries other digits than the pinned ones.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    content = pixels.tobytes() + labels.tobytes()
    _verify(content, DIGITS_SHA256, "scikit-learn load_digits()", "reinstall scikit-learn")
    rest, audit = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_AUDIT, stratify=labels, random_state=SPLIT_SEED
    )
    training, validation = train_test_split(
        rest, test_size=DIGITS_VALIDATION, stratify=labels[rest], random_state=SPLIT_SEED
    )
    small = torch.from_numpy(pixels).float().div(16).unsqueeze(1)
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False).clamp(0, 1)
    targets = torch.from_numpy(labels).long()
    dataset = _dataset("digits", *(Split(large[part], targets[part]) for part in (training, validation, audit)))
    return replace(dataset, files={"load_digits": hashlib.sha256(content).hexdigest()})


def _dataset(name: str, training: Split, validation: Split, audit: Split) -> Dataset:
    digest = hashlib.sha256()
    for split in (training, validation, audit):
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return Dataset(name, training, validation, audit, classes=10, digest=f"sha256:{digest.hexdigest()}")


def with_training(dataset: Dataset, training: Split) -> Dataset:
    """Return a dataset, and its digest, with another training split."""
    return replace(_dataset(dataset.name, training, dataset.validation, dataset.audit), files=dataset.files)


def _split(images: Tensor, labels: Tensor) -> Split:
    return Split(images.unsqueeze(1).float().div(255), labels.long())


def _idx(raw: bytes) -> Tensor:
    """Parse verified IDX bytes. torchvision's reader takes a path and would read the file a second time."""
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _mnist_bytes(*, offline: bool) -> dict[str, bytes]:
    cached = cache_root() / "data" / "MNIST" / "raw"
    root = os.environ.get(MNIST_VARIABLE)
    if root:
        return _from_root(Path(root) / "MNIST" / "raw", cached)
    if not all((cached / name).is_file() for name in MNIST_FILES):
        if offline:
            raise DatasetUnavailable(f"MNIST: {MNIST_VARIABLE} is not set, {cached} has no copy, and offline is set")
        _download(cached)
    remedy = f"delete {cached} to fetch it again"
    return {name: _verified(cached / name, pinned, remedy) for name, pinned in MNIST_FILES.items()}


def _from_root(folder: Path, cached: Path) -> dict[str, bytes]:
    """Read a folder the user named, and keep a checked copy. What is missing or damaged there is never replaced."""
    remedy = f"restore the official file, or unset {MNIST_VARIABLE} to use the cache or the download"
    found = {}
    for name, pinned in MNIST_FILES.items():
        packed = folder / f"{name}.gz"
        source = packed if packed.is_file() else folder / name
        found[name] = _verified(source, pinned, remedy)
        copy = cached / name
        if copy.is_file():
            _verified(copy, pinned, f"delete {copy}: it is copied again from {MNIST_VARIABLE}")
        else:
            artifact.write(copy, found[name])
    return found


def _verified(path: Path, pinned: str, remedy: str) -> bytes:
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{path}: expected the MNIST file with SHA-256 {pinned}, got {error}; {remedy}") from error
    _verify(content, pinned, str(path), remedy)
    return content


def _verify(content: bytes, pinned: str, where: str, remedy: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != pinned:
        raise IntegrityError(f"{where}: expected SHA-256 {pinned}, got {actual}; {remedy}")


def _download(cached: Path) -> None:
    """Let torchvision fetch MNIST into a scratch folder, then move what is complete into the cache."""
    from torchvision.datasets import MNIST

    cached.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent.parent) as scratch:
        try:
            with _socket_timeout(DOWNLOAD_TIMEOUT_SECONDS):
                MNIST(scratch, download=True)
        except (RuntimeError, URLError, OSError) as error:
            if "corrupted" in str(error):  # torchvision's word for a download of another MD5
                raise IntegrityError(f"MNIST: the download does not match its digest: {error}") from error
            raise DatasetUnavailable(
                f"MNIST: {MNIST_VARIABLE} is not set, {cached} has no copy, and the download failed "
                f"({str(error).splitlines()[0]}); set {MNIST_VARIABLE} to a folder that holds MNIST/raw/*-ubyte.gz"
            ) from error
        for name in MNIST_FILES:
            artifact.write(cached / name, (Path(scratch) / "MNIST" / "raw" / name).read_bytes())


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound torchvision's download, which sets no time-out of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
