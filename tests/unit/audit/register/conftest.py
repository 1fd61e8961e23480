"""A register of two elements, to be changed."""

from __future__ import annotations

import copy
from datetime import date

import pytest

from audit.register import Register

TODAY = date(2026, 11, 21)
NOT_APPLICABLE = {"not_applicable": "There is nothing here to spoof or tamper with."}
THREAT = {
    "id": "T-FILE-T-1",
    "description": "Somebody replaces the weight file.",
    "scenario": "At night, with write access to the folder of released models.",
    "attacker": "an insider",
    "impact": "critical",
    "likelihood": "possible",
    "mitigation": "a digest",
    "status": "mitigated",
    "requirements": ["EVA-001", "EVA-002"],
    "references": ["CWE-494", "AML.T0010.003"],
}
ACCEPTED = {
    **{name: THREAT[name] for name in ("id", "description", "scenario", "attacker", "impact", "likelihood")},
    "status": "accepted",
    "owner": "model maintainers",
    "reason": "the weights are public",
    "expires": "2026-11-21",
}
REGISTER = {
    "schema_version": 2,
    "boundaries": [{"id": "here", "title": "Here", "column": 0}, {"id": "there", "title": "There", "column": 1}],
    "parties": [{"id": "user", "title": "User", "boundary": "there"}],
    "elements": [
        {
            "id": name,
            "title": name.title(),
            "kind": "store",
            "boundary": "here",
            "reviewed": "2026-11-01",
            "cells": {letter: NOT_APPLICABLE for letter in "STRIDE"},
        }
        for name in ("model-file", "service")
    ],
    "flows": [
        {"source": "model-file", "target": "service", "data": "weights"},
        {"source": "user", "target": "service", "data": "images"},
    ],
}


def plain(*threats, **changes):
    """Return the register as plain data, these threats in its first T cell, these keys of its first element changed."""
    register = copy.deepcopy(REGISTER)
    register["elements"][0]["cells"]["T"] = list(threats or (THREAT,))
    register["elements"][0].update(changes)
    return register


@pytest.fixture
def register():
    """Give a function that returns such a register."""
    return lambda *threats, **changes: Register.model_validate(plain(*threats, **changes))
