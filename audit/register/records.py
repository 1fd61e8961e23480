"""What a threat register holds: elements with their STRIDE cells, external parties, trust boundaries and data flows.

Source: Shostack 2014, "Threat Modeling", chapters 2 (data-flow diagrams) and 3 (STRIDE per element).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from audit.records import Record, RequirementId, Severity, Stride

Name = Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
ThreatId = Annotated[str, Field(pattern=r"^T-[A-Z]{2,6}-[STRIDE]-\d{1,2}$")]
Sentence = Annotated[str, Field(min_length=20)]
Title = Annotated[str, Field(min_length=2, max_length=60)]
Words = Annotated[str, Field(min_length=3)]


class ThreatStatus(StrEnum):
    """What is done about a threat."""

    MITIGATED = "mitigated"
    ACCEPTED = "accepted"
    TRANSFERRED = "transferred"


class Likelihood(StrEnum):
    """How likely it is that somebody tries, and succeeds where nothing is done about it."""

    RARE = "rare"
    POSSIBLE = "possible"
    LIKELY = "likely"


class Kind(StrEnum):
    """What an element is in the data-flow diagram."""

    PROCESS = "process"
    STORE = "store"


class Threat(Record):
    """One threat: who does what, how bad and how likely that is, and what is done about it.

    Mitigated needs a mitigation and requirement ids; accepted and transferred an owner, a reason and the day it ends.
    ``impact`` is that of success.
    """

    id: ThreatId
    description: Sentence
    scenario: Sentence
    attacker: Words
    impact: Severity
    likelihood: Likelihood
    mitigation: str | None = None
    status: ThreatStatus
    requirements: tuple[RequirementId, ...] = ()
    references: tuple[str, ...] = ()
    owner: str | None = None
    reason: str | None = None
    expires: date | None = None

    @model_validator(mode="after")
    def _answered(self) -> Self:
        if self.status is ThreatStatus.MITIGATED:
            if not self.requirements or not self.mitigation:
                raise ValueError(f"{self.id}: mitigated needs mitigation and requirements (got one or none)")
            if self.owner or self.reason or self.expires:
                raise ValueError(f"{self.id}: mitigated has no owner, reason or expires (got some)")
            return self
        if self.requirements:
            raise ValueError(f"{self.id}: only a mitigated threat names requirements (got {self.status})")
        if not (self.owner and self.reason):
            raise ValueError(f"{self.id}: {self.status} needs owner and reason (got one or none)")
        if self.expires is None:
            raise ValueError(f"{self.id}: {self.status} needs expires, the last day that it holds (got none)")
        return self


class NotApplicable(Record):
    """A cell without a threat, and why."""

    not_applicable: Sentence


class Boundary(Record):
    """A trust boundary: within it, one party decides. ``column`` is its place in the diagram, from the left."""

    id: Name
    title: Title
    column: Annotated[int, Field(ge=0, le=7)]


class Node(Record):
    """Something that data come from or go to."""

    id: Name
    title: Title
    boundary: Name


class Party(Node):
    """Someone or something outside the system."""


class Element(Node):
    """A part of the system; a category that is missing from ``cells`` is a hole, reported as a finding."""

    kind: Kind
    reviewed: date
    cells: dict[Stride, tuple[Threat, ...] | NotApplicable]


class Flow(Record):
    """Data that go from one element or party to another."""

    source: Name
    target: Name
    data: Words


class Register(Record):
    """The whole register. Boundaries and nodes are drawn in the order in which they stand here."""

    schema_version: Literal[2]
    boundaries: Annotated[tuple[Boundary, ...], Field(min_length=1)]
    parties: tuple[Party, ...] = ()
    elements: Annotated[tuple[Element, ...], Field(min_length=1)]
    flows: tuple[Flow, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return parties and elements."""
        return (*self.parties, *self.elements)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        boundaries = [one.id for one in self.boundaries]
        nodes = [one.id for one in self.nodes]
        for name in boundaries + nodes:
            if (boundaries + nodes).count(name) > 1:
                raise ValueError(f"every boundary, party and element needs an id of its own (got {name} twice)")
        for one in self.nodes:
            if one.boundary not in boundaries:
                raise ValueError(f"{one.id}.boundary: expected one of {', '.join(boundaries)} (got {one.boundary!r})")
        for index, flow in enumerate(self.flows):
            for end in (flow.source, flow.target):
                if end not in nodes:
                    raise ValueError(f"flows[{index}]: expected an element or a party (got {end!r})")
            if flow.source == flow.target:
                raise ValueError(f"flows[{index}]: expected two different ends (got {flow.source!r} twice)")
        return self

    def placed(self) -> Iterator[tuple[Stride, Threat]]:
        """Yield every threat with the category of its cell, element by element, in the order S, T, R, I, D, E."""
        for element in self.elements:
            for category in Stride:
                cell = element.cells.get(category)
                yield from ((category, threat) for threat in cell) if isinstance(cell, tuple) else ()

    def threats(self) -> Iterator[Threat]:
        """Yield every threat, in the same order."""
        return (threat for _, threat in self.placed())
