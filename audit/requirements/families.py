"""The types of the families that have one, and of all together, each with its own parameters and control."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from audit.attacks import ATTACKS, Attack
from audit.records import Bound, Family, Knowledge, Metric, Norm, ThreatModel
from audit.requirements.artifact import ArtifactRequirement
from audit.requirements.base import (
    BaseRequirement,
    BuiltinControl,
    GeneralThreat,
    Limits,
    PlantControl,
    TargetControl,
    TargetName,
    Turn,
)
from audit.requirements.dependency import DependencyRequirement
from audit.requirements.poisoning import PoisoningRequirement
from audit.requirements.register import AnyRegisterRequirement
from audit.requirements.serving import ServingRequirement
from audit.scanners import CODE_SCANNERS, CodeScanner

if TYPE_CHECKING:
    AnyAttack = Attack
    AnyCodeScanner = CodeScanner
else:  # the tables decide which names a policy may use
    AnyAttack = Annotated[reduce(or_, ATTACKS.values()), Field(discriminator="name")]
    AnyCodeScanner = Annotated[reduce(or_, CODE_SCANNERS.values()), Field(discriminator="name")]

# what an adversary's knowledge allows an attack to use; a transfer attack has its surrogate as a white box
SUFFICES = {
    Knowledge.WHITE_BOX: (Knowledge.WHITE_BOX, Knowledge.BLACK_BOX_SCORE, Knowledge.BLACK_BOX_LABEL),
    Knowledge.BLACK_BOX_SCORE: (Knowledge.BLACK_BOX_SCORE, Knowledge.BLACK_BOX_LABEL),
    Knowledge.BLACK_BOX_LABEL: (Knowledge.BLACK_BOX_LABEL,),
    Knowledge.TRANSFER: (Knowledge.WHITE_BOX, Knowledge.BLACK_BOX_SCORE, Knowledge.BLACK_BOX_LABEL),
}


def check_budget(attack: Attack, norm: Norm) -> None:
    """Hold an attack to a ball that it can search.

    Raises:
        ValueError: it searches none, or another one.
    """
    if not attack.bounded:
        raise ValueError(
            f"attack: {attack.name} keeps to no eps-ball, so it can only be an exhibit (got a requirement)"
        )
    if norm not in attack.norms:
        raise ValueError(f"attack: {attack.name} works in {', '.join(attack.norms)} only (got norm {norm})")


class PerformanceRequirement(BaseRequirement):
    """Clean accuracy, over all images or on the class that fares worst."""

    metric: ClassVar[Metric] = Metric.CLEAN_ACCURACY
    other_metric: ClassVar[Metric | None] = Metric.WORST_CLASS_ACCURACY
    usual_turn: ClassVar[Turn] = Turn.AT_ONCE
    family: Literal[Family.PERFORMANCE]
    threat_model: GeneralThreat
    samples: Limits = Limits()
    control: TargetControl | BuiltinControl

    @field_validator("bound")
    @classmethod
    def _floor(cls, bound: Bound) -> Bound:
        if bound.metric is Metric.WORST_CLASS_ACCURACY and bound.at_least is None:
            raise ValueError(f"{bound.metric}: expected a floor, at_least (got at_most)")
        return bound


class EvasionRequirement(BaseRequirement):
    """Robust accuracy under one attack within a budget."""

    metric: ClassVar[Metric] = Metric.ROBUST_ACCURACY
    family: Literal[Family.EVASION]
    threat_model: ThreatModel
    attack: AnyAttack
    crafted_on: TargetName | None = None
    samples: Limits = Limits()
    seed: int = 0
    control: TargetControl | BuiltinControl

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the control, and the surrogate of a transfer attack."""
        return (*super().targets, *([self.crafted_on] if self.crafted_on else []))

    @property
    def turn(self) -> Turn:
        """Return when it is examined: an attack of one step is cheap."""
        return Turn.COMPUTING if self.attack.iterated else Turn.CHEAP

    @model_validator(mode="after")
    def _possible(self) -> Self:
        knowledge = self.threat_model.knowledge
        check_budget(self.attack, self.threat_model.norm)
        if (knowledge is Knowledge.TRANSFER) != (self.crafted_on is not None):
            raise ValueError("crafted_on names the surrogate of a transfer attack: give both or none (got one of them)")
        if self.attack.knowledge not in SUFFICES[knowledge]:
            needs, has = self.attack.knowledge, knowledge
            raise ValueError(f"attack: {self.attack.name} needs {needs} knowledge (got a {has} threat model)")
        return self


class StaticRequirement(BaseRequirement):
    """Findings of a scanner over all tracked files of its kind; one of Python reads all code of the model as well."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.WAITING
    family: Literal[Family.STATIC]
    threat_model: GeneralThreat
    scanner: AnyCodeScanner
    control: PlantControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the planted file and the scanner's rules."""
        rules = getattr(self.scanner, "rules", None)
        return (self.control.plant, *([rules] if rules else []))


Requirement = Annotated[
    PerformanceRequirement
    | EvasionRequirement
    | PoisoningRequirement
    | ArtifactRequirement
    | StaticRequirement
    | DependencyRequirement
    | ServingRequirement
    | AnyRegisterRequirement,
    Field(discriminator="family"),
]
