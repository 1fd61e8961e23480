"""(Requirement, session) -> Examination: which check examines a requirement, here or in a process beside this one.

Checks that mostly wait (scanners, look-ups, the served model) run in processes of their own, one a family, while this
one computes. What they say is the same, and so is the order in which it is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from audit import examine as basic
from audit.artifacts.examine import artifact
from audit.dependencies.examine import dependency
from audit.errors import AuditError
from audit.evasion import evasion
from audit.examine import Examined
from audit.outcome import Outcome
from audit.poisoning.examine import poisoning
from audit.records import Evidence, Family
from audit.requirements import Requirement, Turn
from audit.serving.examine import serving
from audit.session import AuditSession
from audit.workers import Ahead

CHECKS: dict[Family, Callable[[Any, AuditSession], Examined | Evidence]] = {
    Family.PERFORMANCE: basic.performance,
    Family.EVASION: evasion,
    Family.POISONING: poisoning,
    Family.ARTIFACT: artifact,
    Family.STATIC: basic.static,
    Family.DEPENDENCY: dependency,
    Family.SERVING: serving,
}
NEED_THE_TARGET = (Family.ARTIFACT, Family.SERVING)
PATIENCE_SECONDS = 1.0  # of waiting for another process, without a word


def examine(requirement: Requirement, session: AuditSession) -> Examined:
    """Examine a requirement, or take what a process beside this one found.

    Raises:
        WorkerFailed: that process broke off.
    """
    if session.to_start_beside and requirement.turn is not Turn.AT_ONCE:
        waiting, session.to_start_beside = session.to_start_beside, ()
        start_beside(waiting, session)
    if requirement.id in session.beside:
        return _taken(requirement, session)
    if requirement.turn is Turn.ALONE:
        session.laboratory.workers.join()
    return _examined(requirement, session)


def start_beside(requirements: Sequence[Requirement], session: AuditSession) -> None:
    """Start a process for each family whose checks mostly wait.

    On a GPU the served model's checks stay here: they ask the target, and a forked process cannot use the GPU.
    """
    waiting: dict[Family, list[Requirement]] = {}
    for one in requirements:
        if one.turn is Turn.WAITING:
            waiting.setdefault(one.family, []).append(one)
    if session.options.device.type != "cpu":
        waiting.pop(Family.SERVING, None)
    if any(family in NEED_THE_TARGET for family in waiting):
        session.load_quietly()  # so that it is not made twice
    for family, group in waiting.items():
        process = session.laboratory.workers.ahead(f"{family} checks", partial(_lane, group, session), computes=False)
        session.beside |= {one.id: process for one in group}


def _lane(group: Sequence[Requirement], session: AuditSession) -> str:
    """Examine requirements in turn, as a process of its own; returns evidence, or why there is none, as JSON."""
    told: dict[str, dict[str, Any]] = {}
    known = len(session.notes)
    try:
        for one in group:
            began = time.monotonic()
            try:
                evidence, _ = _examined(one, session)
                told[one.id] = {"evidence": evidence.model_dump(mode="json")}
            except Exception as error:  # whatever breaks a check, the others are still to be told
                told[one.id] = {"broke": f"{type(error).__name__}: {error}"}
            told[one.id]["seconds"] = time.monotonic() - began
    finally:
        session.lasting.close()
    return json.dumps({"told": told, "notes": session.notes[known:]})


def _taken(requirement: Requirement, session: AuditSession) -> tuple[Evidence, Outcome | None]:
    process: Ahead = session.beside[requirement.id]
    if not process.done_within(PATIENCE_SECONDS):
        session.announce(f"waiting for the {process.name}, which run beside")
    answer = json.loads(process.result())
    session.notes.extend(note for note in answer["notes"] if note not in session.notes)
    said = answer["told"][requirement.id]
    session.seconds_beside[requirement.id] = said["seconds"]
    if "broke" in said:
        raise AuditError(said["broke"])
    return Evidence.model_validate(said["evidence"]), None


def _examined(requirement: Requirement, session: AuditSession) -> Examined:
    found = CHECKS[requirement.family](requirement, session)
    return (found, None) if isinstance(found, Evidence) else found
