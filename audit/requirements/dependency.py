"""The requirements of the dependency family: one type a check, each with its own parameters and control."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field

from audit.records import Family, Metric, Record, Sha256
from audit.requirements.base import BaseRequirement, GeneralThreat, Turn
from audit.scanners.interface import Reason

NEVER_EXCEPTED = ("torch", "torchvision")  # what loads and runs the model
# the OSV dump of PyPI has over 15,000 records, most of them about one package each; a part of it, or a shell, has fewer
FEWEST_RECORDS, FEWEST_PACKAGES = 10_000, 5_000


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


class UnownedFile(Record):
    """A file among the installed packages that no distribution owns, accepted byte for byte, and why.

    ``path`` is relative to the folder of installed packages.
    """

    path: Annotated[str, Field(pattern=r"^[^/\\]+(/[^/\\]+)*$")]
    sha256: Sha256
    reason: Reason


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

    And a small environment of the audit's own, tampered with: a byte changed, a file lost, files and metadata added,
    others put before it. Each of them must be found, and named.
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

    A snapshot of advisories is not believed when it finds nothing if its newest record is older than ``max_age_days``,
    if it has fewer than ``min_records`` records in force or these are about fewer than ``min_packages`` packages, or if
    it is not the one with the digest ``snapshot_sha256``, where that is given.
    """

    check: Literal["advisories"]
    max_age_days: Annotated[int, Field(ge=0, le=366)] = 14
    min_records: Annotated[int, Field(ge=1)] = FEWEST_RECORDS
    min_packages: Annotated[int, Field(ge=1)] = FEWEST_PACKAGES
    snapshot_sha256: Sha256 | None = None
    waive: tuple[AdvisoryWaiver, ...] = ()
    control: CanaryControl


class LockRequirement(_DependencyRequirement):
    """The installed environment is that of one of ``locks``, name for name and version for version, and no more.

    The locks are requirements files with hashes. ``at_least`` names the lowest version of a package that may be
    installed, whatever a lock says; the package must be there. Every installed file is the one that its distribution
    recorded, and has an owner; ``unowned`` accepts others by their digest.
    """

    check: Literal["lock"]
    locks: Annotated[tuple[str, ...], Field(min_length=1)]
    at_least: dict[PackageName, PackageVersion] = Field(default_factory=dict)
    unowned: tuple[UnownedFile, ...] = ()
    control: LockControl

    @property
    def files(self) -> tuple[str, ...]:
        """Return the locks."""
        return self.locks


DependencyRequirement = Annotated[AdvisoriesRequirement | LockRequirement, Field(discriminator="check")]
