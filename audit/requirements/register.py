"""The requirements of the register family: one type a check, each with its own control."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from audit.records import Family, Metric, Record
from audit.requirements.base import BaseRequirement, GeneralThreat, Turn


class RegisterControl(Record):
    """A threat register with every fault that the check must find."""

    register_file: str


class _RegisterRequirement(BaseRequirement):
    """Base of the checks."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.LAST
    family: Literal[Family.REGISTER]
    threat_model: GeneralThreat
    register_file: str
    control: RegisterControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the register and the bad one."""
        return (self.register_file, self.control.register_file)


class CoverageRequirement(_RegisterRequirement):
    """Holes in the STRIDE register: unanswered cells, claims that this run does not bear out, ids that are none.

    ``elements`` are those that the register must hold.
    """

    check: Literal["coverage"]
    elements: Annotated[tuple[str, ...], Field(min_length=1)]


class DatesRequirement(_RegisterRequirement):
    """Acceptances and transfers that have expired or last too long, and reviews older than ``stale_days``."""

    check: Literal["dates"]
    stale_days: Annotated[int, Field(ge=1, le=730)]


RegisterRequirement = CoverageRequirement | DatesRequirement
AnyRegisterRequirement = Annotated[RegisterRequirement, Field(discriminator="check")]
