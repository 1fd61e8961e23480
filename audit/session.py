"""One audit: the policy, the data, and the targets, each loaded once, on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit import released
from audit.builtin import Constant, fit_undefended
from audit.by_class import commonest
from audit.contract import check, check_data
from audit.copies import Copies, copies_in
from audit.defences import AnyDefence
from audit.dependencies.advisories import Snapshot
from audit.errors import TargetError
from audit.isolation.code import Named
from audit.isolation.host import Host
from audit.lasting import Lasting
from audit.loading import Dataset, Samples
from audit.local import wrap_network
from audit.measure import Laboratory
from audit.order import Order
from audit.poisoning.detectors import Detection, detected
from audit.poisoning.plan import Poisoning
from audit.poisoning.triggers import Trigger
from audit.policy import PolicyFile, TargetSpec
from audit.records import Probe, Profile
from audit.released import Weights, WeightsOrigin
from audit.requirements import BuiltinControl, Count, Limits, Requirement, TargetControl
from audit.target import Blueprint, TorchTarget
from audit.trainer import Trainer
from audit.trial import Shown
from audit.witness import Witness
from audit.workers import Ahead

PLANTED = 0.1  # share of the images that a backdoored control is fitted on


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
    advisories: Snapshot | None = None


@dataclass(slots=True)
class AuditSession:
    """Holds what the requirements of one run share.

    ``host`` is where third-party code runs.
    ``foreground`` opens a span in which output reaches the terminal; ``announce`` writes one line to it. ``shown``
    collects what targets were shown, for the exhibits, ``poisonings`` what was done to training data, ``copies`` which
    images of the audit split are judged; ``memorised`` has the probes of whether a target knows the judged images, by
    its name. ``beside`` has the processes that examine requirements beside this one, ``seconds_beside`` how long each
    of those took; of ``to_start_beside`` they start with the first requirement that takes longer than the ones examined
    at once. ``witness`` knows what the data were in the beginning.
    """

    root: Path
    file: PolicyFile
    dataset: Dataset
    order: Order
    options: Options
    laboratory: Laboratory
    host: Host
    foreground: Callable[[], AbstractContextManager[None]]
    announce: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    _targets: dict[str, TorchTarget] = field(default_factory=dict)
    _weights: dict[str, Weights | None] = field(default_factory=dict)
    _failures: dict[str, Exception] = field(default_factory=dict)
    _samples: dict[int | None, Samples] = field(default_factory=dict)
    _detected: dict[str, Detection] = field(default_factory=dict)
    copies: Copies = field(init=False)
    shown: list[Shown] = field(default_factory=list)
    to_start_beside: tuple[Requirement, ...] = ()
    beside: dict[str, Ahead] = field(default_factory=dict)
    seconds_beside: dict[str, float] = field(default_factory=dict)
    poisonings: list[dict[str, Any]] = field(default_factory=list)
    memorised: dict[str, tuple[Probe, ...]] = field(default_factory=dict)
    lasting: Lasting = field(default_factory=Lasting)
    witness: Witness = field(default_factory=Witness)
    trainer: Trainer = field(init=False)

    def __post_init__(self) -> None:
        """Let the trainer serve this session, and the witness see its data; find images that are there several times.

        Raises:
            DataError: there are so many of them that the audit split is no test.
        """
        self.trainer = Trainer(self)
        data = self.dataset
        for name, split in (("audit", data.audit), ("training", data.training), ("fitting", data.fitting)):
            if split is not None:
                self.witness.watch(f"{name} split", split)
        self.copies = copies_in(data)
        self.notes.extend(self.copies.notes())

    @property
    def target_name(self) -> str:
        """Return the name of the audited target."""
        return self.options.target

    def target(self, name: str | None = None) -> TorchTarget:
        """Return a target by name, the audited one by default; its weights are verified before they are loaded.

        Raises:
            IntegrityError: its weight file is not the pinned one.
            TargetError: it cannot be built, or was refused.
        """
        name = name or self.target_name
        return self._once(name, lambda: self._build(name, self.spec(name)))

    def _once(self, name: str, build: Callable[[], TorchTarget]) -> TorchTarget:
        """Return the target of a name, built when it is first asked for.

        What failed once has failed for this run and is raised again: a network that was refused, and would pass when it
        is shown the same images a second time, must not be judged by whoever asks next.
        """
        if name in self._failures:
            raise self._failures[name].with_traceback(None)
        if name not in self._targets:
            try:
                self._targets[name] = build()
            except Exception as error:
                self._failures[name] = error
                raise
        return self._targets[name]

    def loaded(self, name: str) -> TorchTarget | None:
        """Return a target that is loaded already."""
        return self._targets.get(name)

    def load_quietly(self) -> None:
        """Load the audited target if it can be; whoever needs it is told why it cannot."""
        with suppress(Exception):
            self.target()

    def retrained_target(self, name: str) -> TorchTarget:
        """Return a released target with the weights that its recipe gives when it is trained again.

        Raises:
            TargetError: the target has no recipe.
        """
        recipe = self.spec(name).recipe
        if recipe is None:
            raise TargetError(f"--retrain: target {name} has no recipe to train it again by")
        return self.from_factory(name, self.spec(name), self.trainer.train(recipe))

    def poisoned_target(self, name: str, label: str, poison: Poisoning) -> TorchTarget:
        """Return the network that a target's recipe gives on a poisoned copy of the training split."""
        key = f"{name}, {label}"
        spec = self.spec(name).model_copy(update={"poison": poison})
        return self._once(key, lambda: self.from_factory(key, spec, self.trainer.of(key, spec)))

    def weights(self, name: str) -> Weights | None:
        """Return the weight file of a target, trained first if need be; None for a target without weights."""
        if name not in self._weights:
            spec = self.spec(name)
            if spec.weights is not None:
                self._weights[name] = released.weights(name, spec, self.root)
            else:
                self._weights[name] = self.trainer.of(name, spec) if spec.recipe is not None else None
        return self._weights[name]

    def weigh(self) -> None:
        """Take the digest of the audited target's weight file, where the policy names one and nothing needed it yet."""
        if self.spec(self.target_name).weights is not None:
            self.weights(self.target_name)

    def detected(self, name: str) -> Detection:
        """Return what the detectors find in the data that a target is trained on, seen through its own features.

        Raises:
            TargetError: there are no training data, or too few.
        """
        if name not in self._detected:
            self._detected[name] = detected(self.laboratory, self.target(name), self.trainer.split(name))
        return self._detected[name]

    def detect_side_by_side(self, *names: str) -> None:
        """Run the detectors on the data of several targets, for what they leave in the store."""
        self.laboratory.workers.side_by_side([partial(self.detected, name) for name in names])

    def control_target(self, control: TargetControl | BuiltinControl) -> TorchTarget:
        """Return the network on which the same measurement must come out NOT_MET.

        Raises:
            TargetError: there are too few data to fit one on.
        """
        if isinstance(control, TargetControl):
            return self.target(control.target)
        return self._once(name := f"builtin {control.builtin}", lambda: self._builtin(name, control.builtin))

    def backdoored(self, trigger: Trigger) -> TorchTarget:
        """Return a small network with a backdoor on a trigger, fitted on data that are not judged.

        Raises:
            TargetError: there are too few data to fit one on.
        """
        return self._once(name := f"builtin backdoored, {trigger.text}", lambda: self._backdoored(name, trigger))

    def samples(self, limit: Limits | Count) -> Samples:
        """Return the images that are judged in the order of this run, at most as many as the limit allows."""
        count = limit.of(self.options.profile) if isinstance(limit, Limits) else None if limit == "all" else limit
        if count not in self._samples:
            chosen = self.copies.judged.subset(count, self.order.seed)
            self._samples[count] = self.witness.watch(f"audit split, {len(chosen)} images in order", chosen)
        return self._samples[count]

    def describe_target(self) -> dict[str, Any]:
        """Return what the report says of the audited target: as far as this run loaded it, and why no further."""
        name = self.target_name
        shown: dict[str, Any] = {"name": name, **self.spec(name).model_dump(mode="json", exclude_none=True)}
        loaded, weights = self.loaded(name), self._weights.get(name)
        shown["digest"] = loaded.digest if loaded else None
        shown["weights_sha256"] = weights.found if weights else None
        shown["weights_pinned"] = weights is not None and weights.origin is WeightsOrigin.PINNED
        shown["weights_origin"] = weights.origin.value if weights else None
        if name in self._failures:
            shown["error"] = f"{type(self._failures[name]).__name__}: {self._failures[name]}"
        return shown

    def check_references(self) -> None:
        """Import every factory and the trainer that the policy names, and hold the data to what its targets say.

        Raises:
            PolicyError: one of them does not exist.
        """
        policy = self.file.policy
        named = {f"targets.{name}.factory": spec.factory for name, spec in policy.targets.items()}
        named |= {"trainer": policy.trainer, "trainer_digest": policy.trainer_digest}
        self.host.check([Named(one, where) for where, one in named.items() if one is not None], self.root)
        self.trainer.check()

    def _build(self, name: str, spec: TargetSpec) -> TorchTarget:
        check_data(name, self.dataset.audit, spec.bounds, self.classes(spec), spec.input_shape)
        if spec.wraps is not None and spec.defence is not None:
            partner = self.target(spec.defence.partner) if spec.defence.partner else None
            target = self._defended(name, spec.defence, self.target(spec.wraps), partner)
        else:
            target = self.from_factory(name, spec, self.weights(name))
        check(target, self.dataset.audit)
        return target

    def _builtin(self, name: str, kind: str) -> TorchTarget:
        classes, device = self.classes(self.spec(self.target_name)), self.options.device
        if kind == "constant":
            network: nn.Module = Constant(classes, commonest(self.copies.judged.labels.numpy()))
        else:
            self.announce("control: fitting a small undefended network on data that are not judged")
            network = fit_undefended(self.dataset.unjudged, classes, device)
        return self._wrapped(name, network)

    def _backdoored(self, name: str, trigger: Trigger) -> TorchTarget:
        spec, fitting = self.spec(self.target_name), self.dataset.fitting
        classes = self.classes(spec)
        self.announce("control: fitting a small backdoored network on data that are not judged")
        if fitting is not None:
            plan = Poisoning(trigger=trigger, target_class=0, fraction=PLANTED)
            fitting = plan.apply(fitting, classes, spec.bounds).samples
        return self._wrapped(name, fit_undefended(fitting, classes, self.options.device))

    def _wrapped(self, name: str, network: nn.Module) -> TorchTarget:
        spec, device = self.spec(self.target_name), self.options.device
        return wrap_network(name, network, classes=self.classes(spec), bounds=spec.bounds, device=device)

    def from_factory(self, name: str, spec: TargetSpec, weights: Weights | None) -> TorchTarget:
        """Build the network of a target, with weights other than its own perhaps."""
        blueprint = Blueprint(
            name=name,
            root=self.root,
            classes=self.classes(spec),
            bounds=spec.bounds,
            factory=spec.factory or "",
            weights=weights.path if weights else None,
            sha256=(weights.sha256 or weights.found) if weights else None,
            draws=spec.draws,
        )
        return self.host.target(blueprint, self.options.device)

    def _defended(self, name: str, defence: AnyDefence, inner: TorchTarget, partner: TorchTarget | None) -> TorchTarget:
        """Put a target behind an input defence; attacks on the result go through it."""
        blueprint = Blueprint(
            name=name,
            root=self.root,
            classes=inner.classes,
            bounds=inner.bounds,
            defence=defence,
            inner=inner.blueprint,
            partner=partner.blueprint if partner else None,
        )
        return self.host.target(blueprint, self.options.device)

    def classes(self, spec: TargetSpec) -> int:
        """Return the number of classes of a target."""
        return spec.classes or self.dataset.classes

    def spec(self, name: str) -> TargetSpec:
        """Return what the policy says of a target."""
        return self.file.policy.targets[name]
