"""The STRIDE register: every element x category cell answered, and no claim of mitigation without a verdict behind it.

Source: Shostack 2014, "Threat Modeling", chapter 3 (STRIDE per element).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from audit.records import Finding, Record, Reference, RequirementId, Severity, Status, Stride
from audit.yaml_files import read_yaml

WAIVED = "waived"
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What a register is held against: this run's verdicts, the policy's ids, the waived ones, the needed elements."""

    verdicts: Mapping[str, Status]
    known: frozenset[str]
    waived: frozenset[str] = frozenset()
    elements: tuple[str, ...] = ()
    today: date = field(default_factory=lambda: datetime.now(UTC).date())


def findings(register: Register, seen: Seen, path: str) -> list[Finding]:
    """Return every hole: a cell without an answer, an acceptance out of date, a mitigation that this run refutes.

    Args:
        register: what is claimed.
        seen: what it is held against. A waived requirement neither refutes nor proves: the cell says that it is waived.
        path: of the register, for the findings.
    """
    return [
        Finding(tool="register", rule=rule, severity=Severity.HIGH, path=path, message=message)
        for rule, message in _holes(register, seen)
    ]


def matrix(register: Register, seen: Seen) -> dict[str, Any]:
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
                threats = [_plain(threat, seen) for threat in cell]
                cells[category.value] = {"state": _worst(threats), "reason": "", "threats": threats}
        rows.append({"id": element.id, "title": element.title, "cells": cells})
    return {
        "categories": [[category.value, category.name.replace("_", " ").lower()] for category in Stride],
        "rows": rows,
    }


def cell_count(register: Register) -> int:
    """Return how many cells there are to answer."""
    return len(register.elements) * len(Stride)


def _holes(register: Register, seen: Seen) -> Iterator[tuple[str, str]]:
    present = [element.id for element in register.elements]
    for name in seen.elements:
        if name not in present:
            yield "missing", f"{name}: this element of the system is not in the register"
    ids: set[str] = set()
    for element in register.elements:
        for category in Stride:
            cell = element.cells.get(category)
            if not cell:
                yield "unanswered", f"{element.id} x {category.name.lower()}: neither a threat nor a reason why not"
                continue
            for threat in cell if isinstance(cell, tuple) else ():
                if threat.id in ids:
                    yield "duplicate", f"{threat.id}: this id is used twice"
                ids.add(threat.id)
                yield from _unsupported(threat, seen)


def _unsupported(threat: Threat, seen: Seen) -> Iterator[tuple[str, str]]:
    if threat.status is not ThreatStatus.MITIGATED:
        if threat.expires is not None and threat.expires < seen.today:
            yield "expired", f"{threat.id}: {threat.status} until {threat.expires} only; decide again"
        return
    for name in threat.requirements:
        if name not in seen.known:
            yield "unknown", f"{threat.id}: names {name}, which is no requirement of this policy"
        elif _state(name, seen) == Status.NOT_MET:
            yield "refuted", f"{threat.id}: claims mitigation by {name}, which is NOT_MET"
    if not any(_state(name, seen) in (Status.MET, WAIVED) for name in threat.requirements):
        yield "unproved", f"{threat.id}: none of {', '.join(threat.requirements)} is MET in this run"


def _state(name: str, seen: Seen) -> str:
    verdict = seen.verdicts.get(name)
    if verdict is None:
        return "not examined"
    return WAIVED if verdict is Status.NOT_MET and name in seen.waived else verdict.value


def _plain(threat: Threat, seen: Seen) -> dict[str, Any]:
    shown: dict[str, Any] = threat.model_dump(mode="json")
    shown["requirements"] = [{"id": name, "status": _state(name, seen)} for name in threat.requirements]
    return shown


def _worst(threats: list[dict[str, Any]]) -> str:
    verdicts = {str(verdict["status"]) for threat in threats for verdict in threat["requirements"]}
    if Status.NOT_MET in verdicts:
        return "refuted"
    if WAIVED in verdicts:
        return WAIVED
    states = {str(threat["status"]) for threat in threats}
    return next(state for state in ("accepted", "transferred", "mitigated") if state in states)
