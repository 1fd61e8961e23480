"""Foreign code at the edge: resolving ``package.module:function`` and the dataset a policy names.

Code named in a policy is trusted, exactly like the policy itself: the audit runs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.errors import DataError, DataMissing, PolicyError

SUBSET_SEED = 1_234


@dataclass(frozen=True, slots=True)
class Samples:
    """Images (N, C, H, W) float32 in the target's bounds and their true labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def subset(self, count: int | None) -> Samples:
        """Return at most ``count`` samples in a fixed random order; all, in their own order, for None.

        Random, because files are often sorted: the first half of MNIST's test file is easier than the second.
        """
        if count is None or count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(SUBSET_SEED))[:count]
        return Samples(self.images[chosen], self.labels[chosen])

    def where(self, keep: Tensor) -> Samples:
        """Return the samples at which the boolean (N,) tensor ``keep`` is true."""
        return Samples(self.images[keep], self.labels[keep])


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data of a policy. Only ``audit`` is judged on; ``source`` is the factory's own object, for the trainer."""

    name: str
    classes: int
    digest: str
    audit: Samples
    source: Any


def resolve(reference: str, where: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        PolicyError: the module or the function does not exist.
    """
    module, _, function = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PolicyError(
            f"{where}: expected an importable package.module:function, got {reference!r} ({error})"
        ) from error
    if not callable(found):
        raise PolicyError(f"{where}: expected a function, got {reference!r}, a {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # callable() proves no signature


def load_dataset(reference: str, *, offline: bool) -> Dataset:
    """Call a dataset factory and check what it returns.

    The factory is called with ``offline=`` and returns an object with ``name``, ``classes``, ``digest`` and ``audit``,
    the last with ``images`` and ``labels``. It raises FileNotFoundError where the data are not to be had; any other
    error means that they are damaged.

    Raises:
        DataMissing: the data are not on this machine and cannot be fetched.
        DataError: the data are damaged or malformed.
    """
    factory = resolve(reference, "dataset")
    try:
        source = factory(offline=offline)
        return Dataset(source.name, source.classes, source.digest, _samples(source, reference), source)
    except FileNotFoundError as error:
        raise DataMissing(str(error)) from error
    except DataError:
        raise
    except Exception as error:  # a factory is foreign code: whatever it raises means that the data cannot be judged on
        raise DataError(f"{reference}: {type(error).__name__}: {error}") from error


def _samples(source: Any, reference: str) -> Samples:
    images, labels = source.audit.images, source.audit.labels
    where = f"{reference}: audit split"
    if images.ndim != 4 or images.dtype != torch.float32:
        raise DataError(f"{where}: expected images (N, C, H, W) float32, got {tuple(images.shape)} {images.dtype}")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        raise DataError(f"{where}: expected labels ({len(images)},) int64, got {tuple(labels.shape)} {labels.dtype}")
    if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= source.classes:
        raise DataError(f"{where}: expected at least one label, all in 0..{source.classes - 1}")
    if not bool(torch.isfinite(images).all()):
        raise DataError(f"{where}: expected finite pixels")
    return Samples(images, labels)
