"""YAML -> Policy: dataset, targets, requirements and exhibits of one audit. Validates, decides nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from audit.defences import AnyDefence
from audit.errors import PolicyError
from audit.exhibits import Exhibits
from audit.extends import Extension, extended
from audit.poisoning.plan import Poisoning
from audit.records import Record, Sha256
from audit.requirements import (
    BackdooredControl,
    BuiltinControl,
    CureRequirement,
    EvasionRequirement,
    InversionRequirement,
    ReferenceNetworks,
    Requirement,
    ServerSpec,
    TargetControl,
    TargetName,
    TrainingDataRequirement,
)
from audit.yaml_files import Read, read_raw, validated

Side = Annotated[int, Field(ge=1)]

# package.module:function, or path/to/file.py:function
Function = Annotated[str, Field(pattern=r"^([A-Za-z_][\w.]*|[\w][\w./-]*\.py):[A-Za-z_]\w*$")]


class FactoryRef(Record):
    """A function that returns the data, written as a mapping."""

    factory: Function


class TargetSpec(Record):
    """A network: a factory, and weights from a file, from a recipe, or none. Or another target behind a defence.

    With a weight file and a recipe, the file is audited and the recipe says how ``--retrain`` makes it again.
    ``poison`` has the recipe trained on a poisoned copy of the training split, ``sanitises`` on what the detectors
    leave of the copy that another target is trained on.
    ``classes`` and ``input_shape`` (C, H, W) are checked against the data. A network that draws at random says so with
    ``draws``, over which it is judged. ``public_key`` has the folder of the weights verified against its ``signature``,
    by default ``model.sig`` in that folder, before anything is loaded from it.
    """

    factory: Function | None = None
    weights: str | None = None
    sha256: Sha256 | None = None
    recipe: str | None = None
    poison: Poisoning | None = None
    sanitises: TargetName | None = None
    wraps: TargetName | None = None
    defence: AnyDefence | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    classes: Annotated[int, Field(ge=2)] | None = None
    input_shape: tuple[Side, Side, Side] | None = None
    draws: Annotated[int, Field(ge=1, le=1000)] = 1
    public_key: str | None = None
    signature: str | None = None

    @property
    def trained_here(self) -> bool:
        """Tell whether its weights come from a recipe and not from a file."""
        return self.recipe is not None and self.weights is None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.factory is None) == (self.wraps is None):
            got = "neither" if self.factory is None else "both"
            raise ValueError(f"give exactly one of factory, wraps (got {got})")
        if (self.wraps is None) != (self.defence is None):
            raise ValueError("give wraps and defence together (got one of them)")
        if self.wraps is not None and (self.weights or self.recipe or self.draws > 1):
            raise ValueError("a target that wraps another has no weights, recipe or draws of its own (got some)")
        if self.poison is not None and (self.recipe is None or self.weights is not None):
            raise ValueError("poison is done to what a recipe trains on (got no recipe, or weights from a file)")
        if self.sanitises is not None and (self.recipe is None or self.weights is not None or self.poison is not None):
            raise ValueError("sanitises says what a recipe trains on (got no recipe, weights from a file, or poison)")
        if self.sha256 is not None and self.weights is None:
            raise ValueError("sha256 pins a weight file (got no weights)")
        if self.public_key is not None and self.weights is None:
            raise ValueError("public_key verifies the folder of a weight file (got no weights)")
        if self.signature is not None and self.public_key is None:
            raise ValueError("signature needs a public_key to verify it with (got none)")
        if self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"bounds: expected the least before the greatest pixel value (got {list(self.bounds)})")
        return self


class Policy(Record):
    """One policy file, what it extends already merged in.

    ``trainer_digest`` is called with a recipe's name and the dataset, and says by a digest what decides the weights:
    recipe, data and code. It tells whether what is pinned of reference networks still holds.
    """

    schema_version: Literal[1]
    dataset: Function | FactoryRef
    trainer: Function | None = None
    trainer_digest: Function | None = None
    target: TargetName
    targets: Annotated[dict[TargetName, TargetSpec], Field(min_length=1)]
    server: ServerSpec | None = None
    requirements: Annotated[tuple[Requirement, ...], Field(min_length=1)]
    exhibits: Exhibits = Exhibits()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [requirement.id for requirement in self.requirements]
        for index, name in enumerate(ids):
            if name in ids[:index]:
                raise ValueError(f"requirements[{index}].id: every id once (got {name} twice)")
        for where, name in self._named_targets():
            if name not in self.targets:
                raise ValueError(f"{where}: expected one of {', '.join(self.targets)} (got {name!r})")
        for name, target in self.targets.items():
            if target.recipe is not None and self.trainer is None:
                raise ValueError(f"targets.{name}.recipe: needs a trainer at the top level (got none)")
        for name, inner in self._wrapped_targets():
            if inner in self.targets and self.targets[inner].wraps is not None:
                raise ValueError(f"targets.{name}: expected a target with a factory behind a defence (got {inner!r})")
        for where, name in self._clean_targets():
            if self.targets[name].poison is not None or self.targets[name].wraps is not None:
                raise ValueError(f"{where}: expected a target of its own that is not poisoned (got {name!r})")
            if where.endswith("reference_networks.target") and self.targets[name].recipe is None:
                raise ValueError(f"{where}: expected a target with a recipe to train (got {name!r})")
        for where, name in self._trained_on_poison():
            if self.targets[name].poison is None:
                raise ValueError(f"{where}: expected a target that is poisoned (got {name!r})")
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement, CureRequirement) and self.targets[requirement.cured].sanitises is None:
                raise ValueError(
                    f"requirements[{index}].cured: expected a target that sanitises (got {requirement.cured!r})"
                )
        for index, check in enumerate(self.exhibits.defences):
            if self.targets[check.target].wraps is None:
                raise ValueError(
                    f"exhibits.defences[{index}].target: expected a defended target (got {check.target!r})"
                )
        return self

    @property
    def dataset_factory(self) -> str:
        """Return the function that returns the data."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset.factory

    @property
    def fits_networks(self) -> bool:
        """Tell whether a control is a network that the audit fits itself, on data that are not judged."""
        return any(
            isinstance(one.control, BackdooredControl)
            or (isinstance(one.control, BuiltinControl) and one.control.builtin == "undefended")
            for one in self.requirements
        )

    def _wrapped_targets(self) -> Iterator[tuple[str, str]]:
        for name, target in self.targets.items():
            if target.wraps is not None:
                yield name, target.wraps
            if target.defence is not None and target.defence.partner is not None:
                yield name, target.defence.partner

    def _clean_targets(self) -> Iterator[tuple[str, str]]:
        """Yield what must be clean: networks that carriers are made on, and references."""
        for name, target in self.targets.items():
            if target.poison is not None and target.poison.carrier_on is not None:
                yield f"targets.{name}.poison.carrier_on", target.poison.carrier_on
        for index, one in enumerate(self.exhibits.poisonings.scenarios if self.exhibits.poisonings else ()):
            if one.poison.carrier_on is not None:
                yield f"exhibits.poisonings.scenarios[{index}].poison.carrier_on", one.poison.carrier_on
        for index, requirement in enumerate(self.requirements):
            references: ReferenceNetworks | None = getattr(requirement, "reference_networks", None)
            if references is not None:
                yield f"requirements[{index}].reference_networks.target", references.target
        if self.exhibits.poisonings is not None:
            yield "exhibits.poisonings.reference_networks.target", self.exhibits.poisonings.reference_networks.target

    def _trained_on_poison(self) -> Iterator[tuple[str, str]]:
        """Yield what must be poisoned: what is sanitised, and where a detector or an inversion must find something."""
        for name, target in self.targets.items():
            if target.sanitises is not None:
                yield f"targets.{name}.sanitises", target.sanitises
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement, CureRequirement | InversionRequirement | TrainingDataRequirement):
                yield f"requirements[{index}].control.target", requirement.control.target

    def _named_targets(self) -> Iterator[tuple[str, str]]:
        yield "target", self.target
        yield from ((f"targets.{name}", inner) for name, inner in self._wrapped_targets())
        yield from self._clean_targets()
        yield from self._trained_on_poison()
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement.control, TargetControl):
                yield f"requirements[{index}].control.target", requirement.control.target
            if isinstance(requirement, CureRequirement):
                yield f"requirements[{index}].cured", requirement.cured
            if isinstance(requirement, EvasionRequirement) and requirement.crafted_on is not None:
                yield f"requirements[{index}].crafted_on", requirement.crafted_on
        for index, scenario in enumerate(self.exhibits.scenarios):
            yield f"exhibits.scenarios[{index}].target", scenario.target
            if scenario.crafted_on is not None:
                yield f"exhibits.scenarios[{index}].crafted_on", scenario.crafted_on
        for index, curve in enumerate(self.exhibits.curves):
            for name in curve.targets:
                yield f"exhibits.curves[{index}].targets", name
        for index, check in enumerate(self.exhibits.defences):
            yield f"exhibits.defences[{index}].target", check.target
        for index, runtime in enumerate(self.exhibits.runtime):
            yield f"exhibits.runtime[{index}].target", runtime.target


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, where it came from, the digest of the bytes it was made from, and what it made of what it extends."""

    policy: Policy
    path: Path
    sha256: str
    extension: Extension | None = None


def load_policy(path: Path, root: Path) -> PolicyFile:
    """Read and validate a policy; the files it names are looked for below ``root``.

    Raises:
        PolicyError: anything is wrong with it; one line.
    """
    file = read_policy(path, root)
    for index, requirement in enumerate(file.policy.requirements):
        for name in requirement.files:
            if not (root / name).exists():
                raise PolicyError(f"{path}: requirements[{index}] ({requirement.id}): no such file (got {name!r})")
    return file


def read_policy(path: Path, root: Path, read: Read = Path.read_bytes) -> PolicyFile:
    """Read and validate a policy, merged with what it extends, whether or not the files that it names are there.

    Args:
        path: the file.
        root: what it extends is looked for below it.
        read: returns the bytes of a file, those on disk by default.

    Raises:
        PolicyError: anything else is wrong with it; one line.
    """
    data, content = read_raw(path, read)
    merged, inherited, extension = extended(data, path, root, read)
    policy = validated(merged, Policy, path)
    return PolicyFile(policy, path, hashlib.sha256(content + inherited).hexdigest(), extension)


def policy_schema() -> str:
    """Return the JSON Schema of a policy file, as text."""
    schema: dict[str, Any] = Policy.model_json_schema()
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
