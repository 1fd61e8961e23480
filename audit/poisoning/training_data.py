"""POI-003: no class of the training data holds more than a few images that look poisoned."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.poisoning.detectors import DETECTORS, Detection
from audit.records import Evidence, Measurement, Metric, Probe
from audit.requirements import TrainingDataRequirement
from audit.session import AuditSession
from audit.workers import Work

RECALL, PRECISION = 0.95, 0.5  # with which planted poison must be found


@refusals_are_doubts
def training_data(requirement: TrainingDataRequirement, session: AuditSession) -> Examined:
    """Measure the share of a class that the detectors take for poisoned, in the class that has most."""
    if session.dataset.training is None:
        reason = f"dataset {session.dataset.name} gives no training split, so there is nothing to look for poison in"
        return Evidence(not_run=reason), None
    control, bound = requirement.control, requirement.bound
    session.detect_side_by_side(session.target_name, control.target)
    found = session.detected(session.target_name)
    planted = session.spec(control.target).poison
    probes: tuple[Probe, ...] = ()
    table: list[dict[str, Any]] = []
    if planted is not None:
        rows = session.trainer.poisoned(control.target, planted).rows
        known = session.detected(control.target)
        probes = (_finds_planted(control.target, known.against(rows)),)
        table = [known.against(rows, name) for name in (None, *DETECTORS)]
    evidence = Evidence(
        measurement=measure(found),
        probes=probes,
        control=control_result(control_name(control), bound, lambda: measure(session.detected(control.target))),
        tables={
            "detectors": {"target": control.target, "rows": table},
            "labels": {
                "target": session.target_name,
                "rows": [{"class": one, "flagged": flagged, "n": n} for one, flagged, n in found.shares()],
                "parts": found.parts,
            },
        },
    )
    return evidence, None


def detections_ahead(requirement: TrainingDataRequirement, session: AuditSession) -> Iterator[Work]:
    """Yield the detections of the target's training data and of the control's."""
    if session.dataset.training is not None:
        yield from (partial(session.detected, name) for name in (requirement.control.target, session.target_name))


def measure(found: Detection) -> Measurement:
    """Return the highest share of a class that is flagged; exact, for every training image was looked at."""
    worst, flagged, n = max(found.shares(), key=lambda one: one[1] / one[2])
    return Measurement(
        metric=Metric.FLAGGED_SHARE,
        value=flagged / n,
        low=flagged / n,
        high=flagged / n,
        n=n,
        interval="exact: every training image was looked at",
        settings={
            "class": worst,
            "flagged": flagged,
            "flagged_in_all": int(found.flagged.sum()),
            "training_images": len(found.labels),
        },
    )


def _finds_planted(name: str, known: dict[str, Any]) -> Probe:
    recall, precision = known["recall"] or 0.0, known["precision"] or 0.0
    return Probe(
        name=f"planted poison is found with recall {RECALL:g} at precision {PRECISION:g}",
        passed=recall >= RECALL and precision >= PRECISION,
        detail=f"{name}: {known['found']} of {known['planted']} found, {known['flagged']} flagged; "
        f"recall {recall:.3f}, precision {precision:.3f}",
    )
