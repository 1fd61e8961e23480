"""An ``audit.json``, read for comparison: only what is compared is checked, and what else there is, is left alone.

The records of the harness refuse unknown keys, and a report of another release of the same major version may have some.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ConfigDict, Field, ValidationError

from audit.errors import AuditError
from audit.records import SCHEMA_VERSION, Record
from audit.yaml_files import explain

FILE = "audit.json"
MAJOR = SCHEMA_VERSION.partition(".")[0]


class Part(Record):
    """A part of a report that keeps the keys it does not know."""

    model_config = ConfigDict(extra="allow")


class Figure(Part):
    """A measurement."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    interval: str = "exact"
    limit: int | None = None
    seed: int | None = None
    raw_value: float | None = None


class Complaint(Part):
    """A finding, or with ``what`` and ``reason`` a suppression."""

    tool: str
    path: str
    rule: str = ""
    what: str = ""
    message: str = ""
    reason: str = ""


class Grounds(Part):
    """The evidence of a verdict."""

    findings: tuple[Complaint, ...] = ()
    suppressions: tuple[Complaint, ...] = ()


class Judged(Part):
    """A verdict."""

    requirement_id: str
    status: str
    reason: str = ""
    measurement: Figure | None = None
    evidence: Grounds = Grounds()


class Definition(Part):
    """A requirement as the policy states it."""

    id: str


class Header(Part):
    """What a report says of its policy."""

    requirements: tuple[Definition, ...] = ()
    left_out: tuple[str, ...] = ()


class GateSeen(Part):
    """The gate."""

    open: bool
    exit_code: int
    sentence: str = ""


class Excuse(Part):
    """A waiver."""

    id: str


class Shown(Part):
    """An exhibit."""

    kind: str
    title: str
    data: dict[str, Any] = Field(default_factory=dict)


class Audit(Part):
    """A report, as far as it is compared."""

    schema_version: str
    gate: GateSeen
    policy: Header
    target: dict[str, Any]
    partial: bool = False
    verdicts: tuple[Judged, ...]
    exhibits: tuple[Shown, ...] = ()
    waivers: tuple[Excuse, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return in a line what was audited, and when."""
        header = self.policy.model_extra or {}
        commit = str(self.provenance.get("commit") or "no commit")[:10]
        words = (self.target.get("name"), header.get("path"), header.get("profile"), self.provenance.get("started"))
        return ", ".join(str(word) for word in (*words, commit) if word)


def read(path: Path) -> Audit:
    """Read one report.

    Args:
        path: an ``audit.json``, or the folder of a report.

    Raises:
        AuditError: it is missing, no JSON, no report, or one of another major version.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise AuditError(
            f"{file}: expected an {FILE}, or a report folder that holds one, got {error.strerror}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{file}: expected JSON, got: {error}; give the {FILE} of a report") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, str):
        raise AuditError(f"{file}: expected an audit report, with its schema_version (got none); give an {FILE}")
    if version.partition(".")[0] != MAJOR:
        raise AuditError(
            f"{file}: schema_version: expected {MAJOR}.x (got {version}); compare it with the release that wrote it"
        )
    try:
        return Audit.model_validate(data)
    except ValidationError as error:
        raise AuditError(
            f"{file}: expected an audit report, got {explain(error, data)}; run the audit again"
        ) from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which no report has")
