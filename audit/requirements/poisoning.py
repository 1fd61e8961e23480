"""The requirements of the poisoning family: one type a check, each with its own parameters and control."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from audit.poisoning.triggers import AnyTrigger
from audit.records import Family, Metric, Record, Sha256, Share
from audit.requirements.base import (
    BackdooredControl,
    BaseRequirement,
    GeneralThreat,
    Limits,
    TamperControl,
    TargetControl,
    TargetName,
    Turn,
)


class ReferenceNetworks(Record):
    """Clean networks to compare with: the recipe of a target, trained again ``count`` times with other seeds.

    Two at least, since each is held against the others. ``pins`` is a file of what they contribute, as ``python -m
    audit pin-references`` writes it; without it, or where it does not hold any more, they are trained.
    """

    target: TargetName
    count: Annotated[int, Field(ge=2)] = 3
    pins: str | None = None


class _PoisoningRequirement(BaseRequirement):
    """Base of the checks."""

    family: Literal[Family.POISONING]
    threat_model: GeneralThreat


class TriggerRequirement(_PoisoningRequirement):
    """Excess attack success rate over a catalogue of backdoor triggers and all target classes.

    The yardstick is the highest rate on any reference network; without those, on the target itself with ``placebos`` of
    the trigger, its pixels shuffled. A trigger whose yardstick is above ``perturbation_above`` is a perturbation by
    itself, and is not judged, unless its own rate clears the bound without a comparison. A policy may set that
    no higher than 5 %: a backdoor that fires anywhere would be its own yardstick, and judged by what is left of it.
    """

    metric: ClassVar[Metric] = Metric.EXCESS_ASR
    check: Literal["triggers"]
    triggers: Annotated[tuple[AnyTrigger, ...], Field(min_length=1)]
    reference_networks: ReferenceNetworks | None = None
    placebos: Annotated[int, Field(ge=1)] = 10
    perturbation_above: Annotated[float, Field(ge=0.0, le=0.05)] = 0.05
    samples: Limits = Limits()
    control: TargetControl | BackdooredControl


class InversionRequirement(_PoisoningRequirement):
    """Size of the smallest trigger that inversion finds, as a share of the smallest on any reference network.

    Judged only where the target was made by the references' recipe; elsewhere shown, and NOT_RUN.
    """

    metric: ClassVar[Metric] = Metric.INVERTED_TRIGGER
    check: Literal["inversion"]
    reference_networks: ReferenceNetworks
    steps: Annotated[int, Field(ge=20)] = 200
    control: TargetControl


class TrainingDataRequirement(_PoisoningRequirement):
    """Share of the training images of a class that the detectors take for poisoned, in the class that has most."""

    metric: ClassVar[Metric] = Metric.FLAGGED_SHARE
    check: Literal["training-data"]
    control: TargetControl


class CureRequirement(_PoisoningRequirement):
    """Excess attack success rate that is left when poisoned data were cleaned and the network trained again.

    ``cured`` is a target that is trained on what the detectors leave of another's poisoned data. Against the clean
    ``reference_networks`` it may lose at most ``most_lost`` of clean accuracy.
    """

    metric: ClassVar[Metric] = Metric.EXCESS_ASR
    check: Literal["cure"]
    cured: TargetName
    reference_networks: ReferenceNetworks
    most_lost: Share = 0.005
    samples: Limits = Limits()
    control: TargetControl

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the control, and the network that was cured."""
        return (*super().targets, self.cured)


class IntegrityRequirement(_PoisoningRequirement):
    """What differs between the data and what they are pinned to.

    ``training`` and ``audit`` pin the tensors, ``raw_files`` the files they were made from; ``fingerprints`` is the
    file that tells which sample it is, as ``python -m audit pin`` writes it.
    """

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.AT_ONCE
    check: Literal["integrity"]
    training: Sha256
    audit: Sha256
    raw_files: dict[str, Sha256] = Field(default_factory=dict)
    fingerprints: str
    control: TamperControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the fingerprints."""
        return (self.fingerprints,)


PoisoningRequirement = Annotated[
    TriggerRequirement | InversionRequirement | TrainingDataRequirement | CureRequirement | IntegrityRequirement,
    Field(discriminator="check"),
]
