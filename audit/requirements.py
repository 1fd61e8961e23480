"""What a policy may require, one type a family, each with its own parameters and control."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from audit.attacks import ATTACKS, Attack
from audit.records import (
    Bound,
    Family,
    IfNotRun,
    Knowledge,
    Metric,
    Norm,
    Profile,
    Record,
    Reference,
    RequirementId,
    Severity,
    Share,
    Stride,
    ThreatModel,
)
from audit.scanners import CODE_SCANNERS, DEPENDENCY_SCANNERS, CodeScanner, DependencyScanner
from audit.triggers import AnyTrigger

if TYPE_CHECKING:
    AnyAttack = Attack
    AnyCodeScanner = CodeScanner
    AnyDependencyScanner = DependencyScanner
else:  # the tables decide which names a policy may use
    AnyAttack = Annotated[reduce(or_, ATTACKS.values()), Field(discriminator="name")]
    AnyCodeScanner = Annotated[reduce(or_, CODE_SCANNERS.values()), Field(discriminator="name")]
    AnyDependencyScanner = reduce(or_, DEPENDENCY_SCANNERS.values())

TargetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)] | Literal["all"]


class Limits(Record):
    """Upper limits of samples per profile; ``all`` is no limit."""

    quick: Count = "all"
    full: Count = "all"

    def of(self, profile: Profile) -> int | None:
        """Return the limit of a profile, None for all."""
        limit = self.quick if profile is Profile.QUICK else self.full
        return None if limit == "all" else limit


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


class TargetControl(Record):
    """Another target on which the same measurement must come out NOT_MET."""

    target: TargetName
    samples: Count = "all"


class BuiltinControl(Record):
    """A network of the audit's own on which the same measurement must come out NOT_MET.

    ``constant`` gives the same answer to every image; ``undefended`` is a small network fitted, without any hardening,
    on data that are not judged.
    """

    builtin: Literal["constant", "undefended"]
    samples: Count = 200


class PlantControl(Record):
    """A vulnerable source file, planted as ``planted.py`` in a temporary folder."""

    plant: str


class ReportControl(Record):
    """A stand-in report of the scanner, with a finding."""

    report: str


class RegisterControl(Record):
    """A threat register with a hole."""

    register_file: str


class PayloadControl(Record):
    """The malicious pickle must fire under plain pickle in a throw-away child process."""

    payload: Literal["marker-file"]


class GeneralThreat(Record):
    """An adversary in words."""

    goal: str
    knowledge: Knowledge
    capability: str


class BaseRequirement(Record):
    """What every requirement states."""

    metric: ClassVar[Metric]

    id: RequirementId
    title: Annotated[str, Field(min_length=5)]
    why: Annotated[str, Field(min_length=20)]
    severity: Severity
    stride: Annotated[tuple[Stride, ...], Field(min_length=1)]
    references: Annotated[tuple[Reference, ...], Field(min_length=1)]
    bound: Bound
    if_not_run: IfNotRun = IfNotRun.BLOCK

    @field_validator("bound")
    @classmethod
    def _right_metric(cls, bound: Bound) -> Bound:
        if bound.metric is not cls.metric:
            raise ValueError(f"metric: this family is judged on {cls.metric} (got {bound.metric})")
        return bound

    @property
    def files(self) -> tuple[str, ...]:
        """Return the repository files this requirement needs."""
        return ()


class PerformanceRequirement(BaseRequirement):
    """Clean accuracy."""

    metric: ClassVar[Metric] = Metric.CLEAN_ACCURACY
    family: Literal[Family.PERFORMANCE]
    threat_model: GeneralThreat
    samples: Limits = Limits()
    control: TargetControl | BuiltinControl


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


class ReferenceNetworks(Record):
    """Clean networks to compare with: the recipe of a target, trained again ``count`` times with other seeds.

    Two at least, since each is held against the others.
    """

    target: TargetName
    count: Annotated[int, Field(ge=2)] = 3


class PoisoningRequirement(BaseRequirement):
    """Excess attack success rate over a catalogue of backdoor triggers and all target classes.

    The yardstick is the highest rate on any reference network; without those, on the target itself with ``placebos`` of
    the trigger, its pixels shuffled. A trigger whose yardstick is above ``perturbation_above`` is a perturbation by
    itself, and is not judged.
    """

    metric: ClassVar[Metric] = Metric.EXCESS_ASR
    family: Literal[Family.POISONING]
    threat_model: GeneralThreat
    triggers: Annotated[tuple[AnyTrigger, ...], Field(min_length=1)]
    reference_networks: ReferenceNetworks | None = None
    placebos: Annotated[int, Field(ge=1)] = 10
    perturbation_above: Share = 0.05
    samples: Limits = Limits()
    control: TargetControl


class ArtifactRequirement(BaseRequirement):
    """Safe loading of weight files."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    family: Literal[Family.ARTIFACT]
    threat_model: GeneralThreat
    control: PayloadControl


class StaticRequirement(BaseRequirement):
    """Findings of a source scanner over all tracked Python files."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    family: Literal[Family.STATIC]
    threat_model: GeneralThreat
    scanner: AnyCodeScanner
    control: PlantControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the planted file and the scanner's rules."""
        rules = getattr(self.scanner, "rules", None)
        return (self.control.plant, *([rules] if rules else []))


class DependencyRequirement(BaseRequirement):
    """Known vulnerabilities in the installed environment."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    family: Literal[Family.DEPENDENCY]
    threat_model: GeneralThreat
    scanner: AnyDependencyScanner
    control: ReportControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the stand-in report."""
        return (self.control.report,)


class RegisterRequirement(BaseRequirement):
    """Holes in the STRIDE register."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    family: Literal[Family.REGISTER]
    threat_model: GeneralThreat
    register_file: str
    elements: Annotated[tuple[str, ...], Field(min_length=1)]
    control: RegisterControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the register and the one with a hole."""
        return (self.register_file, self.control.register_file)


Requirement = Annotated[
    PerformanceRequirement
    | EvasionRequirement
    | PoisoningRequirement
    | ArtifactRequirement
    | StaticRequirement
    | DependencyRequirement
    | RegisterRequirement,
    Field(discriminator="family"),
]
