"""What every requirement states, and the controls it may name."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from audit.records import (
    Bound,
    IfNotRun,
    Knowledge,
    Metric,
    Profile,
    Record,
    Reference,
    RequirementId,
    Severity,
    Stride,
)
from audit.references import problem

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


class TargetControl(Record):
    """Another target on which the same measurement must come out NOT_MET."""

    target: TargetName
    samples: Count = "all"


class BuiltinControl(Record):
    """A network of the audit's own on which the same measurement must come out NOT_MET.

    ``constant`` answers every image with the commonest class of the judged data; ``undefended`` is a small network
    fitted, without any hardening, on data that are not judged.
    """

    builtin: Literal["constant", "undefended"]
    samples: Count = 200


class PlantControl(Record):
    """A vulnerable source file, planted as ``planted.py`` in a temporary folder."""

    plant: str


class BackdooredControl(Record):
    """A small network of the audit's own with a backdoor on the first trigger, fitted on data that are not judged."""

    builtin: Literal["backdoored"]
    samples: Count = 1000


class TamperControl(Record):
    """Tampered copies of the data: a flipped label, a changed pixel, a removed sample, two swapped files.

    Each of them must be found, and named.
    """

    tamper: Literal["copies"]


class PayloadControl(Record):
    """The corpus of malicious files: every payload must fire under plain pickle, in a throw-away child process.

    For a second scanner the same files, in which it must find something.
    """

    payload: Literal["marker-file"]


class SignedCopyControl(Record):
    """A copy of the folder, signed with a new key: a changed byte, a missing and an added file must each fail."""

    tamper: Literal["signed-copy"]


class WeakServerControl(Record):
    """A server of the audit's own with the weakness that the check looks for, which it must find."""

    server: Literal["weak"]


class GeneralThreat(Record):
    """An adversary in words."""

    goal: str
    knowledge: Knowledge
    capability: str


class Turn(IntEnum):
    """When a requirement is examined: those that need no other network first, then cheap ones; what reads others last.

    What mostly waits, for tools, servers and look-ups, is examined beside those that compute; what measures load has
    the machine to itself.
    """

    AT_ONCE = 0
    CHEAP = 1
    COMPUTING = 2
    WAITING = 3
    ALONE = 4
    LAST = 5


class BaseRequirement(Record):
    """What every requirement states."""

    metric: ClassVar[Metric]
    other_metric: ClassVar[Metric | None] = None
    usual_turn: ClassVar[Turn] = Turn.COMPUTING

    id: RequirementId
    title: Annotated[str, Field(min_length=5)]
    why: Annotated[str, Field(min_length=20)]
    severity: Severity
    stride: Annotated[tuple[Stride, ...], Field(min_length=1)]
    references: Annotated[tuple[Reference, ...], Field(min_length=1)]
    bound: Bound
    if_not_run: IfNotRun = IfNotRun.BLOCK

    @field_validator("references")
    @classmethod
    def _in_their_catalogues(cls, references: tuple[Reference, ...]) -> tuple[Reference, ...]:
        for wrong in map(problem, references):
            if wrong:
                raise ValueError(wrong)
        return references

    @field_validator("bound")
    @classmethod
    def _right_metric(cls, bound: Bound) -> Bound:
        judged = [one for one in (cls.metric, cls.other_metric) if one is not None]
        if bound.metric not in judged:
            raise ValueError(f"metric: this family is judged on {' or '.join(judged)} (got {bound.metric})")
        return bound

    @property
    def turn(self) -> Turn:
        """Return when it is examined."""
        return self.usual_turn

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the targets it needs besides the audited one."""
        control = getattr(self, "control", None)
        return (control.target,) if isinstance(control, TargetControl) else ()

    @property
    def files(self) -> tuple[str, ...]:
        """Return the repository files this requirement needs."""
        return ()
