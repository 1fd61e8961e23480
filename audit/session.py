"""One audit: the policy, the data, and the targets, each loaded once, on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audit.errors import TargetError
from audit.loading import Dataset, Samples, resolve
from audit.measure import Laboratory
from audit.policy import PolicyFile, TargetSpec
from audit.records import Profile
from audit.requirements import Count, Limits
from audit.target import TorchTarget, build_target


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose, and which requirements are waived."""

    target: str
    profile: Profile
    device: torch.device
    offline: bool
    retrain: bool
    waived: frozenset[str]


@dataclass(frozen=True, slots=True)
class Weights:
    """A weight file and the digest it must have."""

    path: Path
    sha256: str


@dataclass(slots=True)
class AuditSession:
    """Holds what the requirements of one run share.

    ``foreground`` opens a span in which output reaches the terminal; ``announce`` writes one line to it.
    """

    root: Path
    file: PolicyFile
    dataset: Dataset
    options: Options
    laboratory: Laboratory
    foreground: Callable[[], AbstractContextManager[None]]
    announce: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    _targets: dict[str, TorchTarget] = field(default_factory=dict)
    _weights: dict[str, Weights | None] = field(default_factory=dict)
    _failures: dict[str, str] = field(default_factory=dict)

    @property
    def target_name(self) -> str:
        """Return the name of the audited target."""
        return self.options.target

    def target(self, name: str | None = None) -> TorchTarget:
        """Return a target by name, the audited one by default; its weights are verified before they are loaded.

        Raises:
            IntegrityError: its weight file is not the pinned one.
            TargetError: it cannot be built.
        """
        name = name or self.target_name
        if name not in self._targets:
            try:
                self._targets[name] = self._build(name, self.weights(name))
            except Exception as error:
                self._failures[name] = f"{type(error).__name__}: {error}"
                raise
        return self._targets[name]

    def retrained_target(self, name: str) -> TorchTarget:
        """Return a released target with the weights that its recipe gives when it is trained again.

        Raises:
            TargetError: the target has no recipe.
        """
        recipe = self._spec(name).recipe
        if recipe is None:
            raise TargetError(f"--retrain: target {name} has no recipe to train it again by")
        return self._build(name, self.train(recipe))

    def weights(self, name: str) -> Weights | None:
        """Return the weight file of a target, trained first if need be; None for a target without weights."""
        if name not in self._weights:
            spec = self._spec(name)
            if spec.weights is not None and spec.sha256 is not None:
                self._weights[name] = Weights(self.root / spec.weights, spec.sha256)
            else:
                self._weights[name] = self.train(spec.recipe) if spec.recipe else None
        return self._weights[name]

    def train(self, recipe: str) -> Weights:
        """Have the policy's trainer make or find the weights of a recipe, its progress on the terminal."""
        trainer = resolve(self.file.policy.trainer or "", "trainer")
        self.announce(f"weights of {recipe} on {self.dataset.name}: from the cache, or trained now")
        with self.foreground():
            trained: Any = trainer(
                recipe, self.dataset.source, device=str(self.options.device), retrain=self.options.retrain
            )
        self.notes.extend(trained.notes)
        for note in trained.notes:
            self.announce(note)
        return Weights(trained.path, trained.sha256)

    def samples(self, limit: Limits | Count) -> Samples:
        """Return the audit split, or a fixed random subset of it."""
        if isinstance(limit, Limits):
            return self.dataset.audit.subset(limit.of(self.options.profile))
        return self.dataset.audit.subset(None if limit == "all" else limit)

    def describe_target(self) -> dict[str, Any]:
        """Return what the report says of the audited target: as far as this run loaded it, and why no further."""
        name = self.target_name
        shown: dict[str, Any] = {"name": name, **self._spec(name).model_dump(mode="json", exclude_none=True)}
        loaded, weights = self._targets.get(name), self._weights.get(name)
        shown["digest"] = loaded.digest if loaded else None
        shown["weights_sha256"] = weights.sha256 if weights else None
        if name in self._failures:
            shown["error"] = self._failures[name]
        return shown

    def check_references(self) -> None:
        """Import every factory and the trainer that the policy names.

        Raises:
            PolicyError: one of them does not exist.
        """
        policy = self.file.policy
        for name, spec in policy.targets.items():
            resolve(spec.factory, f"targets.{name}.factory")
        if policy.trainer is not None:
            resolve(policy.trainer, "trainer")

    def _build(self, name: str, weights: Weights | None) -> TorchTarget:
        spec = self._spec(name)
        return build_target(
            name,
            spec.factory,
            weights.path if weights else None,
            weights.sha256 if weights else None,
            classes=self.dataset.classes,
            bounds=spec.bounds,
            device=self.options.device,
        )

    def _spec(self, name: str) -> TargetSpec:
        return self.file.policy.targets[name]


def choose_device(name: str) -> torch.device:
    """Return the named device; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        TargetError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except Exception as error:  # torch raises a different type for each kind of device that is not here
        raise TargetError(f"--device: expected cpu, cuda or mps, as this machine has it (got {name!r})") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise TargetError(f"--device: expected cpu, cuda or mps (got {name!r})")
    return device
