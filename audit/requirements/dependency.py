"""The requirements of the dependency family: one type a check, each with its own parameters and control."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field

from audit.records import Family, Metric, Record
from audit.requirements.base import BaseRequirement, GeneralThreat, Turn
from audit.scanners.interface import Reason

NEVER_EXCEPTED = ("torch", "torchvision")  # what loads and runs the model


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"expected a version by PEP 440 (got {text!r})") from error
    return text


def _may_be_excepted(name: str) -> str:
    if canonicalize_name(name) in NEVER_EXCEPTED:
        raise ValueError(f"{' and '.join(NEVER_EXCEPTED)} can never be an exception (got {name!r})")
    return name


PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
PackageVersion = Annotated[str, AfterValidator(_version)]
AdvisoryId = Annotated[str, Field(pattern=r"^[A-Z]+-[A-Za-z0-9-]+$")]


class PackageException(Record):
    """A package that a check passes over, and why."""

    package: Annotated[PackageName, AfterValidator(_may_be_excepted)]
    reason: Reason


class AdvisoryWaiver(Record):
    """An advisory that is accepted for one package until a day, by whom, and why. ``id`` may be an alias of it."""

    id: AdvisoryId
    package: PackageName
    reason: Reason
    owner: Annotated[str, Field(min_length=2)]
    expires: date


class Canary(Record):
    """A version of a package with a well-known advisory, by which the service must know it."""

    package: PackageName
    version: PackageVersion
    advisory: AdvisoryId


class CanaryControl(Record):
    """Versions that the same client must find vulnerable, by the same service. They are asked for, never installed."""

    canaries: Annotated[tuple[Canary, ...], Field(min_length=1)]


class LockControl(Record):
    """A tampered copy of the lock: an entry less, one more, another version, one without hashes, a floor too high.

    Each of them must be found, and named.
    """

    tamper: Literal["lock"]


class _DependencyRequirement(BaseRequirement):
    """Base of the checks."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.WAITING
    family: Literal[Family.DEPENDENCY]
    threat_model: GeneralThreat
    exceptions: tuple[PackageException, ...] = ()

    @property
    def excepted(self) -> dict[str, str]:
        """Return the reasons of the exceptions by canonical name."""
        return {canonicalize_name(one.package): one.reason for one in self.exceptions}


class AdvisoriesRequirement(_DependencyRequirement):
    """Known vulnerabilities in the installed environment, every third-party package really looked up.

    A snapshot of advisories that is older than ``max_age_days`` is not believed when it finds nothing.
    """

    check: Literal["advisories"]
    max_age_days: Annotated[int, Field(ge=0, le=366)] = 14
    waive: tuple[AdvisoryWaiver, ...] = ()
    control: CanaryControl


class LockRequirement(_DependencyRequirement):
    """The installed environment is that of one of ``locks``, name for name and version for version, and no more.

    The locks are requirements files with hashes. ``at_least`` names the lowest version of a package that may be
    installed, whatever a lock says; the package must be there.
    """

    check: Literal["lock"]
    locks: Annotated[tuple[str, ...], Field(min_length=1)]
    at_least: dict[PackageName, PackageVersion] = Field(default_factory=dict)
    control: LockControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the locks."""
        return self.locks


DependencyRequirement = Annotated[AdvisoriesRequirement | LockRequirement, Field(discriminator="check")]
