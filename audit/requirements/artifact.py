"""The requirements of the artifact family: one type a check, each with its own control."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from audit.records import Family, Metric
from audit.requirements.base import BaseRequirement, GeneralThreat, PayloadControl, SignedCopyControl, Turn


class _ArtifactRequirement(BaseRequirement):
    """Base of the checks."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.WAITING
    family: Literal[Family.ARTIFACT]
    threat_model: GeneralThreat


class LoadingRequirement(_ArtifactRequirement):
    """Findings in the target's weight file, and files of the malicious corpus that the loader does not refuse."""

    check: Literal["loading"]
    control: PayloadControl


class SecondOpinionRequirement(_ArtifactRequirement):
    """Findings of a second scanner in the target's weight file and in further files.

    ``artifacts`` are patterns of paths that git tracks. Where the scanner understands none of the files, nothing was
    examined.
    """

    check: Literal["second-opinion"]
    artifacts: tuple[str, ...] = ()
    control: PayloadControl


class SignatureRequirement(_ArtifactRequirement):
    """Whether the folder of the target's weights is what the owner of its ``public_key`` signed."""

    check: Literal["signature"]
    control: SignedCopyControl


ArtifactRequirement = Annotated[
    LoadingRequirement | SecondOpinionRequirement | SignatureRequirement, Field(discriminator="check")
]
