"""The register as plain data for the report: the element x category matrix, each cell with a state, and the diagram."""

from __future__ import annotations

from datetime import date
from typing import Any

from audit.records import Status, Stride
from audit.register.claims import WAIVED, Seen, in_words, unclaimed
from audit.register.records import NotApplicable, Register, Threat, ThreatStatus

# least favourable first: a cell shows the first state that one of its threats has
STATES = (
    "unanswered",
    "refuted",
    "unproved",
    "expired",
    "waived",
    "accepted",
    "transferred",
    "mitigated in part",
    "mitigated",
    "not applicable",
)


def matrix(register: Register, seen: Seen, today: date) -> dict[str, Any]:
    """Return the element x category matrix, what no threat claims, and the nodes, flows and boundaries to draw."""
    rows = []
    for element in register.elements:
        cells: dict[str, dict[str, Any]] = {}
        for category in Stride:
            cell = element.cells.get(category)
            if isinstance(cell, NotApplicable):
                cells[category.value] = {"state": "not applicable", "reason": cell.not_applicable, "threats": []}
            else:
                threats = [_plain(threat, category, seen, today) for threat in cell or ()]
                state = min((one["state"] for one in threats), key=STATES.index, default="unanswered")
                cells[category.value] = {"state": state, "reason": "", "threats": threats}
        shown = {"id": element.id, "title": element.title, "reviewed": element.reviewed.isoformat()}
        rows.append({**shown, "cells": cells})
    return {
        "categories": [[category.value, in_words(category)] for category in Stride],
        "rows": rows,
        "unclaimed": unclaimed(register, seen),
        "diagram": {
            "boundaries": [one.model_dump(mode="json") for one in register.boundaries],
            "nodes": [
                *(
                    {"id": one.id, "title": one.title, "kind": "party", "boundary": one.boundary}
                    for one in register.parties
                ),
                *(
                    {"id": one.id, "title": one.title, "kind": one.kind.value, "boundary": one.boundary}
                    for one in register.elements
                ),
            ],
            "flows": [one.model_dump(mode="json") for one in register.flows],
        },
    }


def state_of(threat: Threat, category: Stride, seen: Seen, today: date) -> str:
    """Return what this run makes of a threat in a cell of a category, one of ``STATES``.

    ``mitigated``: a requirement of it that counters the category is met; ``in part``: so it is, and another one was not
    examined or is undecided.
    """
    if threat.status is not ThreatStatus.MITIGATED:
        return "expired" if threat.expires is not None and threat.expires < today else threat.status.value
    states = {seen.state(name) if name in seen.known else "unknown" for name in threat.requirements}
    if Status.NOT_MET in states:
        return "refuted"
    if not seen.proves(threat, category):
        return "unproved"
    if WAIVED in states:
        return WAIVED
    return "mitigated" if states == {Status.MET.value} else "mitigated in part"


def _plain(threat: Threat, category: Stride, seen: Seen, today: date) -> dict[str, Any]:
    shown: dict[str, Any] = threat.model_dump(mode="json")
    shown["state"] = state_of(threat, category, seen, today)
    shown["requirements"] = [{"id": name, "status": seen.state(name)} for name in threat.requirements]
    return shown
