"""YAML -> Policy: dataset, targets, requirements and exhibits of one audit. Validates, decides nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from audit.errors import PolicyError
from audit.records import Norm, Record, Sha256, Trigger, Waiver
from audit.requirements import AnyAttack, Limits, Requirement, TargetControl, TargetName
from audit.yaml_files import read_yaml

Function = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class TargetSpec(Record):
    """A network: a factory, and weights from a pinned file, from a recipe, or none.

    With both, the file is audited and the recipe says how ``--retrain`` makes it again.
    """

    factory: Function
    weights: str | None = None
    sha256: Sha256 | None = None
    recipe: str | None = None
    bounds: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if (self.weights is None) != (self.sha256 is None):
            raise ValueError(f"give weights and sha256 together (got {'weights' if self.weights else 'sha256'} only)")
        return self


class Scenario(Record):
    """One row of the scenario table: a target, and what it is shown."""

    label: Annotated[str, Field(min_length=3)]
    target: TargetName
    attack: AnyAttack | None = None
    norm: Norm = Norm.LINF
    eps: Annotated[float, Field(gt=0.0)] | None = None
    crafted_on: TargetName | None = None
    trigger: Trigger | None = None
    samples: Limits = Limits()
    seed: int = 0
    gallery: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.attack is None) != (self.eps is None):
            raise ValueError("give attack and eps together (got one of them)")
        if self.attack is not None and self.trigger is not None:
            raise ValueError("give at most one of attack, trigger (got both)")
        if self.crafted_on is not None and self.attack is None:
            raise ValueError("crafted_on needs an attack (got none)")
        return self


class Curve(Record):
    """Accuracy against eps: one attack, several budgets, several targets."""

    title: Annotated[str, Field(min_length=3)]
    targets: Annotated[tuple[TargetName, ...], Field(min_length=1)]
    attack: AnyAttack
    norm: Norm = Norm.LINF
    eps: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=2)]
    samples: Limits = Limits()
    seed: int = 0


class Exhibits(Record):
    """What the report shows beside the verdicts."""

    scenarios: tuple[Scenario, ...] = ()
    curves: tuple[Curve, ...] = ()


class Policy(Record):
    """One policy file."""

    schema_version: Literal[1]
    dataset: Function
    trainer: Function | None = None
    target: TargetName
    targets: Annotated[dict[TargetName, TargetSpec], Field(min_length=1)]
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
        return self

    def _named_targets(self) -> Iterator[tuple[str, str]]:
        yield "target", self.target
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement.control, TargetControl):
                yield f"requirements[{index}].control.target", requirement.control.target
        for index, scenario in enumerate(self.exhibits.scenarios):
            yield f"exhibits.scenarios[{index}].target", scenario.target
            if scenario.crafted_on is not None:
                yield f"exhibits.scenarios[{index}].crafted_on", scenario.crafted_on
        for index, curve in enumerate(self.exhibits.curves):
            for name in curve.targets:
                yield f"exhibits.curves[{index}].targets", name


class _Waivers(Record):
    waivers: tuple[Waiver, ...]


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, where it came from, and the digest of the bytes it was made from."""

    policy: Policy
    path: Path
    sha256: str


def load_policy(path: Path, root: Path) -> PolicyFile:
    """Read and validate a policy; the files it names are looked for below ``root``.

    Raises:
        PolicyError: anything is wrong with it; one line.
    """
    policy, content = read_yaml(path, Policy)
    for index, requirement in enumerate(policy.requirements):
        for name in requirement.files:
            if not (root / name).exists():
                raise PolicyError(f"{path}: requirements[{index}] ({requirement.id}): no such file (got {name!r})")
    return PolicyFile(policy, path, hashlib.sha256(content).hexdigest())


def load_waivers(path: Path, policy: Policy, today: date | None = None) -> tuple[Waiver, ...]:
    """Read the waivers; none where the file is absent.

    Raises:
        PolicyError: a waiver is malformed, expired, or names no requirement of the policy.
    """
    if not path.is_file():
        return ()
    waivers = read_yaml(path, _Waivers)[0].waivers
    known = {requirement.id for requirement in policy.requirements}
    for index, waiver in enumerate(waivers):
        where = f"{path}: waivers[{index}]"
        if waiver.id not in known:
            raise PolicyError(f"{where}.id: expected a requirement of the policy (got {waiver.id})")
        if waiver.id in [other.id for other in waivers[:index]]:
            raise PolicyError(f"{where}.id: every id once (got {waiver.id} twice)")
        if waiver.expires < (today or datetime.now(UTC).date()):
            raise PolicyError(f"{where}.expires: {waiver.id} expired on {waiver.expires}; fix the cause or renew it")
    return waivers


def policy_schema() -> str:
    """Return the JSON Schema of a policy file, as text."""
    schema: dict[str, Any] = Policy.model_json_schema()
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
