"""What the networks of a policy are trained on: the training split, a poisoned copy of it, or what is left of one.

Training itself is the policy's: ``trainer`` names the function that does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from audit.artifacts.weights import file_sha256
from audit.attacks import Pgd
from audit.errors import PolicyError, TargetError
from audit.loading import Samples
from audit.poisoning import references
from audit.poisoning.plan import Poisoned, Poisoning
from audit.poisoning.references import Pins, Reference
from audit.policy import TargetSpec
from audit.released import Weights, WeightsOrigin
from audit.requirements import ReferenceNetworks, TriggerRequirement
from audit.target import TorchTarget

if TYPE_CHECKING:
    from audit.session import AuditSession

CARRIER_STEPS = 40
FIRST_REFERENCE = 101  # seed; the next ones follow


class Trainer:
    """Gives each target its training data, and has the policy's trainer make its weights from them."""

    def __init__(self, session: AuditSession) -> None:
        """Serve this session."""
        self._session = session
        self._poisoned: dict[str, Poisoned] = {}
        self._references: dict[str, Reference] = {}

    def of(self, name: str, spec: TargetSpec) -> Weights:
        """Return the weights that a target's recipe gives on its training data."""
        plain = spec.poison is None and spec.sanitises is None
        return self.train(spec.recipe or "", examples=None if plain else self._split(name, spec))

    def train(self, recipe: str, *, examples: Samples | None = None, seed: int | None = None) -> Weights:
        """Have the policy's trainer make or find the weights of a recipe, its progress on the terminal.

        A trainer need not know ``examples`` and ``seed`` unless the policy poisons, or trains references.

        Raises:
            PolicyError: there is no such trainer.
            TargetError: it raised something.
        """
        session = self._session
        what = f"{recipe}{', other data,' if examples else ''}{f', seed {seed},' if seed is not None else ''}"
        session.announce(f"weights of {what} on {session.dataset.name}: from the cache, or trained now")
        with session.foreground():
            trained = session.dataset.source.train(
                session.file.policy.trainer or "",
                recipe,
                device=str(session.options.device),
                retrain=session.options.retrain,
                seed=seed,
                examples=examples,
            )
        session.notes.extend(trained.notes)
        for note in trained.notes:
            session.announce(note)
        return Weights(trained.path, trained.sha256, file_sha256(trained.path), WeightsOrigin.MADE_HERE)

    def split(self, name: str) -> Samples:
        """Return the images and labels that a target is trained on.

        Raises:
            TargetError: the dataset gives no training split.
        """
        return self._split(name, self._session.spec(name))

    def poisoned(self, name: str, poison: Poisoning) -> Poisoned:
        """Return the poisoned copy of the training split, and keep a record of what was done."""
        if name not in self._poisoned:
            session, eps, carrier = self._session, poison.carrier_eps, None
            if poison.carrier_on is not None:
                surrogate, attack = session.target(poison.carrier_on), Pgd(steps=CARRIER_STEPS, step_size=eps / 10)
                carrier = partial(session.laboratory.carriers, surrogate, attack=attack, eps=eps, seed=poison.seed)
            spec = session.spec(name.partition(",")[0])
            done = poison.apply(self.clean(), session.classes(spec), spec.bounds, carrier)
            session.poisonings.append({"target": name, **poison.describe(), **done.describe()})
            self._poisoned[name] = done
        return self._poisoned[name]

    def clean(self) -> Samples:
        """Return the training split as the dataset gives it.

        Raises:
            TargetError: it gives none.
        """
        if self._session.dataset.training is None:
            raise TargetError(f"dataset {self._session.dataset.name}: expected a training split (got none)")
        return self._session.dataset.training

    def references(self, named: ReferenceNetworks) -> list[Reference]:
        """Return clean networks to compare with: pinned, or the recipe of a target, trained with seeds of their own."""
        pins, spec, found = self._pins(named), self._session.spec(named.target), []
        for seed in range(FIRST_REFERENCE, FIRST_REFERENCE + named.count):
            key = f"{named.target}, seed {seed}"
            if key not in self._references:
                self._references[key] = Reference(
                    key,
                    self._session.classes(spec),
                    self._session.laboratory,
                    partial(self._reference_target, key, spec, seed),
                    pins.of(seed) if pins else None,
                )
            found.append(self._references[key])
        return found

    def training_digest(self, recipe: str) -> str | None:
        """Return what the policy says decides the weights of a recipe; None where it does not say."""
        policy = self._session.file.policy
        if policy.trainer_digest is None:
            return None
        return self._session.dataset.source.training_digest(policy.trainer_digest, recipe)

    def _pins(self, named: ReferenceNetworks) -> Pins | None:
        """Return what is pinned of reference networks, where it holds; a note says why it does not."""
        recipe = self._session.spec(named.target).recipe or ""
        if named.pins is None or self._session.options.retrain or (training := self.training_digest(recipe)) is None:
            return None
        path = self._session.root / named.pins
        why = "there is no such file"
        if path.is_file():
            pins = references.read(path)
            why = references.outdated(pins, recipe, training) or ""
            if not why:
                return pins
        note = f"{named.pins} is not used ({why}): the reference networks of {named.target} are trained again"
        if note not in self._session.notes:
            self._session.notes.append(note)
            self._session.announce(note)
        return None

    def _reference_target(self, key: str, spec: TargetSpec, seed: int) -> TorchTarget:
        return self._session.from_factory(key, spec, self.train(spec.recipe or "", seed=seed))

    def prepare(self, networks: Sequence[Reference], work: Callable[[Reference], object]) -> None:
        """Train references side by side, for what that leaves; not with ``--retrain``: there no cache is believed."""
        if not self._session.options.retrain:
            references.prepare(networks, work)

    def check(self) -> None:
        """Hold poisonings and triggers to the data, before anything is trained.

        Raises:
            PolicyError: one of them does not fit, with its YAML path.
        """
        policy, where = self._session.file.policy, ""
        try:
            for place_of, poison, spec in self._planned():
                where = place_of
                if self._session.dataset.training is None:
                    raise ValueError("expected a dataset with a training split to poison (got none)")
                poison.check(self._session.dataset.training, self._session.classes(spec))
            height, width = self._session.dataset.audit.images.shape[-2:]
            for index, requirement in enumerate(policy.requirements):
                if isinstance(requirement, TriggerRequirement):
                    for place, trigger in enumerate(requirement.triggers):
                        where = f"requirements[{index}].triggers[{place}]"
                        trigger.maps(height, width)
            for index, scenario in enumerate(policy.exhibits.scenarios):
                where = f"exhibits.scenarios[{index}].trigger"
                if scenario.trigger is not None:
                    scenario.trigger.maps(height, width)
                if (scenario.target_class or 0) >= self._session.dataset.classes:
                    where, last = f"exhibits.scenarios[{index}].target_class", self._session.dataset.classes - 1
                    raise ValueError(f"expected classes in 0..{last} (got {scenario.target_class})")
        except ValueError as error:
            raise PolicyError(f"{self._session.file.path}: {where}: {error}") from error

    def _planned(self) -> list[tuple[str, Poisoning, TargetSpec]]:
        """Return every poisoning of the policy, where it stands, and the target whose recipe it is for."""
        policy = self._session.file.policy
        found = [(f"targets.{name}.poison", spec.poison, spec) for name, spec in policy.targets.items() if spec.poison]
        if policy.exhibits.poisonings is not None:
            spec = policy.targets[policy.exhibits.poisonings.reference_networks.target]
            for index, one in enumerate(policy.exhibits.poisonings.scenarios):
                found.append((f"exhibits.poisonings.scenarios[{index}].poison", one.poison, spec))
        return found

    def _split(self, name: str, spec: TargetSpec) -> Samples:
        if spec.poison is not None:
            return self.poisoned(name, spec.poison).samples
        if spec.sanitises is not None:
            found = self._session.detected(spec.sanitises)
            return self.split(spec.sanitises).at(~found.flagged)
        return self.clean()
