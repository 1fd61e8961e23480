"""The STRIDE register: every element x category cell answered, and no claim of mitigation without a verdict behind it.

Source: Shostack 2014, "Threat Modeling", chapter 3 (STRIDE per element).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from audit.records import Finding, Record, Reference, RequirementId, Severity, Status, Stride
from audit.yaml_files import read_yaml

ThreatId = Annotated[str, Field(pattern=r"^T-[A-Z]{2,6}-[STRIDE]-\d{1,2}$")]


class ThreatStatus(StrEnum):
    """What is done about a threat."""

    MITIGATED = "mitigated"
    ACCEPTED = "accepted"
    TRANSFERRED = "transferred"


class Threat(Record):
    """One threat. Mitigated needs requirement ids; accepted or transferred needs an owner and a reason."""

    id: ThreatId
    threat: Annotated[str, Field(min_length=20)]
    mitigation: str | None = None
    status: ThreatStatus
    requirements: tuple[RequirementId, ...] = ()
    references: tuple[Reference, ...] = ()
    owner: str | None = None
    reason: str | None = None
    expires: date | None = None

    @model_validator(mode="after")
    def _answered(self) -> Self:
        if self.status is ThreatStatus.MITIGATED:
            if not self.requirements or not self.mitigation:
                raise ValueError(f"{self.id}: mitigated needs mitigation and requirements (got one or none)")
        elif not (self.owner and self.reason):
            raise ValueError(f"{self.id}: {self.status} needs owner and reason (got one or none)")
        return self


class NotApplicable(Record):
    """A cell without a threat, and why."""

    not_applicable: Annotated[str, Field(min_length=20)]


class Element(Record):
    """A part of the system; a category that is missing from ``cells`` is a hole, reported as a finding."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
    title: str
    cells: dict[Stride, tuple[Threat, ...] | NotApplicable]


class Register(Record):
    """All elements."""

    schema_version: Literal[1]
    elements: Annotated[tuple[Element, ...], Field(min_length=1)]


def read_register(path: Path) -> Register:
    """Read the register.

    Raises:
        PolicyError: it is malformed.
    """
    return read_yaml(path, Register)[0]


def findings(register: Register, verdicts: Mapping[str, Status], known: frozenset[str], path: str) -> list[Finding]:
    """Return every hole: a cell without an answer, and a mitigation that this run does not bear out.

    Args:
        register: what is claimed.
        verdicts: the verdicts of this run by requirement id.
        known: ids of all requirements of the policy.
        path: of the register, for the findings.
    """
    return [
        Finding(tool="register", rule=rule, severity=Severity.HIGH, path=path, message=message)
        for rule, message in _holes(register, verdicts, known)
    ]


def matrix(register: Register, verdicts: Mapping[str, Status]) -> dict[str, Any]:
    """Return the element x category matrix as plain data for the report."""
    rows = []
    for element in register.elements:
        cells: dict[str, dict[str, Any]] = {}
        for category in Stride:
            cell = element.cells.get(category)
            if isinstance(cell, NotApplicable):
                cells[category.value] = {"state": "not applicable", "reason": cell.not_applicable, "threats": []}
            elif not cell:
                cells[category.value] = {"state": "unanswered", "reason": "", "threats": []}
            else:
                threats = [_plain(threat, verdicts) for threat in cell]
                cells[category.value] = {"state": _worst(threats), "reason": "", "threats": threats}
        rows.append({"id": element.id, "title": element.title, "cells": cells})
    return {
        "categories": [[category.value, category.name.replace("_", " ").lower()] for category in Stride],
        "rows": rows,
    }


def cell_count(register: Register) -> int:
    """Return how many cells there are to answer."""
    return len(register.elements) * len(Stride)


def _holes(register: Register, verdicts: Mapping[str, Status], known: frozenset[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for element in register.elements:
        for category in Stride:
            cell = element.cells.get(category)
            if not cell:
                yield "unanswered", f"{element.id} x {category.name.lower()}: neither a threat nor a reason why not"
                continue
            for threat in cell if isinstance(cell, tuple) else ():
                if threat.id in seen:
                    yield "duplicate", f"{threat.id}: this id is used twice"
                seen.add(threat.id)
                yield from _unsupported(threat, verdicts, known)


def _unsupported(threat: Threat, verdicts: Mapping[str, Status], known: frozenset[str]) -> Iterator[tuple[str, str]]:
    if threat.status is not ThreatStatus.MITIGATED:
        return
    for name in threat.requirements:
        if name not in known:
            yield "unknown", f"{threat.id}: names {name}, which is no requirement of this policy"
        elif verdicts.get(name) is Status.NOT_MET:
            yield "refuted", f"{threat.id}: claims mitigation by {name}, which is NOT_MET"
    if not any(verdicts.get(name) is Status.MET for name in threat.requirements):
        yield "unproved", f"{threat.id}: none of {', '.join(threat.requirements)} is MET in this run"


def _plain(threat: Threat, verdicts: Mapping[str, Status]) -> dict[str, Any]:
    shown: dict[str, Any] = threat.model_dump(mode="json")
    shown["requirements"] = [
        {"id": name, "status": str(verdicts.get(name, "not examined"))} for name in threat.requirements
    ]
    return shown


def _worst(threats: list[dict[str, Any]]) -> str:
    states = {str(threat["status"]) for threat in threats}
    failed = any(verdict["status"] == Status.NOT_MET for threat in threats for verdict in threat["requirements"])
    if failed:
        return "refuted"
    return next(state for state in ("accepted", "transferred", "mitigated") if state in states)
