"""One audit: the policy, the data, and the targets, each loaded once, on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit.attacks import Pgd
from audit.builtin import Constant, fit_undefended
from audit.contract import check, check_data
from audit.errors import PolicyError, TargetError
from audit.loading import Dataset, Samples, resolve
from audit.measure import Laboratory
from audit.outcome import Outcome
from audit.poisoning import Poisoned, Poisoning
from audit.policy import PolicyFile, TargetSpec
from audit.records import Profile, ThreatModel
from audit.requirements import BuiltinControl, Count, Limits, PoisoningRequirement, TargetControl
from audit.target import TorchTarget, build_target, defend, wrap_network
from audit.weights import file_sha256

FIRST_REFERENCE = 101  # seed; the next ones follow
CARRIER_STEPS = 40


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose, and which requirements are waived."""

    target: str
    profile: Profile
    device: torch.device
    offline: bool
    retrain: bool
    exhaustive: bool
    waived: frozenset[str]


@dataclass(frozen=True, slots=True)
class Weights:
    """A weight file, the digest it must have where one is pinned, and the one it had when it was first looked at."""

    path: Path
    sha256: str | None
    found: str | None


@dataclass(slots=True)
class AuditSession:
    """Holds what the requirements of one run share.

    ``foreground`` opens a span in which output reaches the terminal; ``announce`` writes one line to it. ``attacked``
    collects every attack on the audited target, named, for the worst case over all of them, ``poisonings`` what was
    done to training data.
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
    _samples: dict[int | None, Samples] = field(default_factory=dict)
    attacked: list[tuple[str, ThreatModel, Outcome]] = field(default_factory=list)
    poisonings: list[dict[str, Any]] = field(default_factory=list)

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
                self._targets[name] = self._build(name, self._spec(name))
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
        return self._from_factory(name, self._spec(name), self.train(recipe))

    def references(self, name: str, count: int) -> list[TorchTarget]:
        """Return clean networks to compare with: the recipe of a target, trained with seeds of their own."""
        spec, found = self._spec(name), []
        for seed in range(FIRST_REFERENCE, FIRST_REFERENCE + count):
            key = f"{name}, seed {seed}"
            if key not in self._targets:
                self._targets[key] = self._from_factory(key, spec, self.train(spec.recipe or "", seed=seed))
            found.append(self._targets[key])
        return found

    def poisoned(self, name: str, poison: Poisoning) -> Poisoned:
        """Return the poisoned copy of the training split that a target is trained on, and keep a record of it."""
        spec = self._spec(name)
        eps, carrier = poison.carrier_eps, None
        if poison.carrier_on is not None:
            surrogate, attack = self.target(poison.carrier_on), Pgd(steps=CARRIER_STEPS, step_size=eps / 10)
            carrier = partial(self.laboratory.carriers, surrogate, attack=attack, eps=eps, seed=poison.seed)
        done = poison.apply(self._training(), self._classes(spec), spec.bounds, carrier)
        self.poisonings.append({"target": name, **poison.describe(), **done.describe()})
        return done

    def weights(self, name: str) -> Weights | None:
        """Return the weight file of a target, trained first if need be; None for a target without weights."""
        if name not in self._weights:
            spec = self._spec(name)
            if spec.weights is not None:
                self._weights[name] = _weights(self.root / spec.weights, spec.sha256)
            else:
                self._weights[name] = self._trained(name, spec)
        return self._weights[name]

    def _trained(self, name: str, spec: TargetSpec) -> Weights | None:
        if spec.recipe is None:
            return None
        return self.train(spec.recipe, poisoned=self.poisoned(name, spec.poison) if spec.poison else None)

    def train(self, recipe: str, *, poisoned: Poisoned | None = None, seed: int | None = None) -> Weights:
        """Have the policy's trainer make or find the weights of a recipe, its progress on the terminal.

        A trainer need not know ``examples`` and ``seed`` unless the policy poisons, or trains references.
        """
        trainer = resolve(self.file.policy.trainer or "", "trainer", self.root)
        changed: dict[str, Any] = {} if seed is None else {"seed": seed}
        if poisoned is not None:
            changed["examples"] = (poisoned.images, poisoned.labels)
        what = f"{recipe}{', poisoned,' if poisoned else ''}{f', seed {seed},' if seed is not None else ''}"
        self.announce(f"weights of {what} on {self.dataset.name}: from the cache, or trained now")
        with self.foreground():
            trained: Any = trainer(
                recipe, self.dataset.source, device=str(self.options.device), retrain=self.options.retrain, **changed
            )
        self.notes.extend(trained.notes)
        for note in trained.notes:
            self.announce(note)
        return _weights(trained.path, trained.sha256)

    def control_target(self, control: TargetControl | BuiltinControl) -> TorchTarget:
        """Return the network on which the same measurement must come out NOT_MET.

        Raises:
            TargetError: there are too few data to fit one on.
        """
        if isinstance(control, TargetControl):
            return self.target(control.target)
        name = f"builtin {control.builtin}"
        if name not in self._targets:
            classes, device = self._classes(self._spec(self.target_name)), self.options.device
            if control.builtin == "constant":
                network: nn.Module = Constant(classes)
            else:
                self.announce("control: fitting a small undefended network on data that are not judged")
                network = fit_undefended(self.dataset.fitting, classes, device)
            self._targets[name] = wrap_network(
                name, network, classes=classes, bounds=self._spec(self.target_name).bounds, device=device
            )
        return self._targets[name]

    def samples(self, limit: Limits | Count) -> Samples:
        """Return the audit split in a fixed random order, at most as many as the limit allows."""
        count = limit.of(self.options.profile) if isinstance(limit, Limits) else None if limit == "all" else limit
        if count not in self._samples:
            self._samples[count] = self.dataset.audit.subset(count)
        return self._samples[count]

    def describe_target(self) -> dict[str, Any]:
        """Return what the report says of the audited target: as far as this run loaded it, and why no further."""
        name = self.target_name
        shown: dict[str, Any] = {"name": name, **self._spec(name).model_dump(mode="json", exclude_none=True)}
        loaded, weights = self._targets.get(name), self._weights.get(name)
        shown["digest"] = loaded.digest if loaded else None
        shown["weights_sha256"] = weights.found if weights else None
        shown["weights_pinned"] = bool(weights and weights.sha256)
        if name in self._failures:
            shown["error"] = self._failures[name]
        return shown

    def check_references(self) -> None:
        """Import every factory and the trainer that the policy names, and hold the data to what its targets say.

        Raises:
            PolicyError: one of them does not exist.
        """
        policy = self.file.policy
        for name, spec in policy.targets.items():
            if spec.factory is not None:
                resolve(spec.factory, f"targets.{name}.factory", self.root)
        if policy.trainer is not None:
            resolve(policy.trainer, "trainer", self.root)
        self._check_poisoning()

    def _check_poisoning(self) -> None:
        """Hold poisonings and triggers to the data, before anything is trained."""
        policy, (height, width) = self.file.policy, self.dataset.audit.images.shape[-2:]
        where = ""
        try:
            for name, spec in policy.targets.items():
                where = f"targets.{name}.poison"
                if spec.poison is not None:
                    spec.poison.check(self._training(), self._classes(spec))
            for index, requirement in enumerate(policy.requirements):
                if isinstance(requirement, PoisoningRequirement):
                    for place, trigger in enumerate(requirement.triggers):
                        where = f"requirements[{index}].triggers[{place}]"
                        trigger.maps(height, width)
            for index, scenario in enumerate(policy.exhibits.scenarios):
                where = f"exhibits.scenarios[{index}].trigger"
                if scenario.trigger is not None:
                    scenario.trigger.maps(height, width)
                if (scenario.target_class or 0) >= self.dataset.classes:
                    where = f"exhibits.scenarios[{index}].target_class"
                    raise ValueError(f"expected classes in 0..{self.dataset.classes - 1} (got {scenario.target_class})")
        except ValueError as error:
            raise PolicyError(f"{self.file.path}: {where}: {error}") from error

    def _training(self) -> Samples:
        if self.dataset.training is None:
            raise ValueError("expected a dataset with a training split to poison (got none)")
        return self.dataset.training

    def _build(self, name: str, spec: TargetSpec) -> TorchTarget:
        check_data(name, self.dataset.audit, spec.bounds, self._classes(spec), spec.input_shape)
        if spec.wraps is not None and spec.defence is not None:
            partner = self.target(spec.defence.partner) if spec.defence.partner else None
            target = defend(name, self.target(spec.wraps), spec.defence, partner)
        else:
            target = self._from_factory(name, spec, self.weights(name))
        check(target, self.dataset.audit)
        return target

    def _from_factory(self, name: str, spec: TargetSpec, weights: Weights | None) -> TorchTarget:
        return build_target(
            name,
            spec.factory or "",
            weights.path if weights else None,
            (weights.sha256 or weights.found) if weights else None,
            root=self.root,
            classes=self._classes(spec),
            bounds=spec.bounds,
            device=self.options.device,
            draws=spec.draws,
        )

    def _classes(self, spec: TargetSpec) -> int:
        return spec.classes or self.dataset.classes

    def _spec(self, name: str) -> TargetSpec:
        return self.file.policy.targets[name]


def _weights(path: Path, sha256: str | None) -> Weights:
    return Weights(path, sha256, file_sha256(path))


def choose_device(name: str) -> torch.device:
    """Return the named device; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        TargetError: there is no such device here.
    """
    # on a GPU float32 would else mean ten bits of mantissa, and verdicts are float32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
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
