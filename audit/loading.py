"""Third-party code at the edge: resolving the functions a policy names, and the dataset that one of them returns.

On Linux this happens in processes of its own (see :mod:`audit.isolation`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from audit.errors import DataError, DataMissing, PolicyError

SUBSET_SEED = 1_234
HELD_OUT = 0.2  # share of the data kept from judging where something has to be fitted on it
MOST_HELD_OUT = 5_000


@dataclass(frozen=True, slots=True)
class Samples:
    """Images (N, C, H, W) float32 in the target's bounds; true labels (N,) int64; places in the data (N,) int64."""

    images: Tensor
    labels: Tensor
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        """Number the samples where nobody did."""
        if len(self.index) != len(self.labels):
            object.__setattr__(self, "index", torch.arange(len(self.labels)))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def subset(self, count: int | None, seed: int = SUBSET_SEED) -> Samples:
        """Return at most ``count`` samples, all for None, in a seed's random order; smaller subsets begin larger ones.

        Random, because files are often sorted: the first half of MNIST's test file is easier than the second. The
        order of the seed that is fixed here is public, so it is for data that nobody is judged on; see order.py.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.at(order[:count])

    def where(self, keep: Tensor) -> Samples:
        """Return the samples at which the boolean (N,) tensor ``keep`` is true."""
        return self.at(keep)

    def at(self, rows: Tensor | slice) -> Samples:
        """Return the samples at these rows."""
        return Samples(self.images[rows], self.labels[rows], self.index[rows])


@dataclass(frozen=True, slots=True)
class Trained:
    """A weight file that a trainer made or found, the SHA-256 that it must have, and what a reader should know."""

    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """What a dataset factory returned, wherever it is, and the trainer beside it."""

    def train(
        self,
        trainer: str,
        recipe: str,
        *,
        device: str,
        retrain: bool,
        seed: int | None = None,
        examples: Samples | None = None,
    ) -> Trained:
        """Have the trainer that a policy names make or find the weights of a recipe.

        It need not know ``seed`` and ``examples`` where they are None.
        """
        ...

    def training_digest(self, function: str, recipe: str) -> str:
        """Return what a function that a policy names says decides the weights of a recipe."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A dataset factory's own object, in this process."""

    value: Any
    root: Path

    def train(
        self,
        trainer: str,
        recipe: str,
        *,
        device: str,
        retrain: bool,
        seed: int | None = None,
        examples: Samples | None = None,
    ) -> Trained:
        """Call the trainer."""
        more: dict[str, Any] = {} if seed is None else {"seed": seed}
        if examples is not None:
            more["examples"] = (examples.images, examples.labels)
        made = resolve(trainer, "trainer", self.root)(recipe, self.value, device=device, retrain=retrain, **more)
        return Trained(Path(made.path), str(made.sha256), tuple(map(str, made.notes)))

    def training_digest(self, function: str, recipe: str) -> str:
        """Call the function."""
        return str(resolve(function, "trainer_digest", self.root)(recipe, self.value))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data of a policy.

    Only ``audit`` is judged on. ``training`` is None where the factory gives none. ``fitting`` is disjoint from
    ``audit``, for networks that the audit fits itself; None until :meth:`held_out`. ``source`` has the factory's own
    object, and trains on it. ``files`` has the SHA-256 of the raw files by name, where the factory tells them.
    """

    name: str
    classes: int
    digest: str
    audit: Samples
    training: Samples | None
    fitting: Samples | None
    source: Source
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def unjudged(self) -> Samples | None:
        """Return data to fit a network on: ``fitting``, else as many of the training split; None without either."""
        if self.fitting is not None or self.training is None:
            return self.fitting
        return self.training.subset(MOST_HELD_OUT)

    def held_out(self, seed: int) -> Dataset:
        """Return the dataset with data to fit networks on, which are not judged.

        That is the training split, or else a random share of the audit split, chosen by the seed, which is then no
        longer in it.
        """
        if self.training is not None:
            return replace(self, fitting=self.training.subset(MOST_HELD_OUT))
        shuffled, kept = self.audit.subset(None, seed), min(int(HELD_OUT * len(self.audit)), MOST_HELD_OUT)
        return replace(self, fitting=shuffled.at(slice(0, kept)), audit=shuffled.at(slice(kept, None)))


def resolve(reference: str, where: str, root: Path) -> Callable[..., Any]:
    """Import ``package.module:function`` or ``path/to/file.py:function``, the path relative to ``root``.

    Raises:
        PolicyError: the module or the function does not exist.
    """
    try:
        found = getattr(named_module(reference, root), reference.rpartition(":")[2])
    except Exception as error:  # importing runs foreign code, which may raise anything
        raise PolicyError(
            f"{where}: expected an importable package.module:function or path/to/file.py:function, "
            f"got {reference!r} ({type(error).__name__}: {error})"
        ) from error
    if not callable(found):
        raise PolicyError(f"{where}: expected a function, got {reference!r}, a {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # callable() proves no signature


def named_module(reference: str, root: Path) -> ModuleType:
    """Import the module of a function that a policy names; whatever the import raises is raised."""
    module = reference.rpartition(":")[0]
    return _load_file(root / module) if module.endswith(".py") else importlib.import_module(module)


def load_dataset(reference: str, root: Path, *, offline: bool) -> Dataset:
    """Call a dataset factory and check what it returns.

    The factory is called, with ``offline=`` if it takes that, and returns either a pair of images and labels, or an
    object with ``audit`` (that pair as attributes ``images`` and ``labels``) and, where it has them, ``name``,
    ``classes``, ``digest``, ``training`` and ``files`` (SHA-256 of the raw files by name). Images are (N, C, H, W)
    floating point, labels (N,) integers; tensors or arrays. It raises FileNotFoundError where the data are not to be
    had; any other error means that they are damaged.

    Args:
        reference: the factory.
        root: where a path in it begins.
        offline: whether it must not try the network.

    Raises:
        DataMissing: the data are not on this machine and cannot be fetched.
        DataError: the data are damaged or malformed.
    """
    factory = resolve(reference, "dataset", root)
    try:
        source = factory(offline=offline) if "offline" in inspect.signature(factory).parameters else factory()
        return _dataset(source, reference, root)
    except FileNotFoundError as error:
        raise DataMissing(str(error)) from error
    except DataError:
        raise
    except Exception as error:  # a factory is foreign code: whatever it raises means that the data cannot be judged on
        raise DataError(f"{reference}: {type(error).__name__}: {error}") from error


def _dataset(source: Any, reference: str, root: Path) -> Dataset:
    audit = samples_of(source if isinstance(source, tuple) else source.audit, f"{reference}: audit split")
    split = getattr(source, "training", None)
    training = samples_of(split, f"{reference}: training split") if split is not None else None
    classes = getattr(source, "classes", None) or max(int(audit.labels.max()) + 1, 2)
    if int(audit.labels.max()) >= classes:
        raise DataError(f"{reference}: audit split: expected labels in 0..{classes - 1}, got {int(audit.labels.max())}")
    digest = getattr(source, "digest", None) or content_digest(audit.images, audit.labels)
    name, files = getattr(source, "name", None) or reference, dict(getattr(source, "files", {}))
    return Dataset(name, classes, digest, audit, training, None, LocalSource(source, root), files)


def samples_of(split: Any, where: str) -> Samples:
    """Return images and labels as samples.

    Raises:
        DataError: they have another shape or kind than promised; ``where`` says which they are.
    """
    images, labels = split if isinstance(split, tuple) else (split.images, split.labels)
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"{where}: expected images (N, C, H, W) of floating point, got {tuple(images.shape)} {images.dtype}; "
            "convert bytes with images / 255, and add the channel with images[:, None]"
        )
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(
            f"{where}: expected labels ({len(images)},) of integers, got {tuple(labels.shape)} {labels.dtype}"
        )
    if not len(labels) or int(labels.min()) < 0:
        raise DataError(f"{where}: expected at least one label, none below 0")
    if not bool(torch.isfinite(images).all()):
        raise DataError(f"{where}: expected finite pixels")
    return Samples(images.float().contiguous(), labels.long())


def content_digest(images: Tensor, labels: Tensor) -> str:
    """Return the SHA-256 of images and labels as they lie in memory."""
    digest = hashlib.sha256(images.numpy().tobytes())
    digest.update(labels.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _load_file(path: Path) -> ModuleType:
    """Import a Python file that belongs to no package; files beside it can be imported by it."""
    name = f"_named_in_a_policy_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module
