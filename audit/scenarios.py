"""Exhibits: the scenario table, the accuracy-eps curves, and what the report draws of a requirement's samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from audit import metrics
from audit.measure import Outcome
from audit.policy import Curve, Scenario
from audit.records import Exhibit, Knowledge, ThreatModel
from audit.session import AuditSession

CONFIDENCE = 0.95


def scenario(spec: Scenario, session: AuditSession) -> tuple[Exhibit, Outcome]:
    """Show a target something; returns one row of the scenario table, and the samples behind it."""
    laboratory, samples = session.laboratory, session.samples(spec.samples)
    target = session.target(spec.target)
    if spec.attack is not None and spec.eps is not None:
        crafted_on = session.target(spec.crafted_on) if spec.crafted_on else None
        knowledge = Knowledge.TRANSFER if crafted_on else Knowledge.WHITE_BOX
        threat = ThreatModel(goal="untargeted", knowledge=knowledge, norm=spec.norm, eps=spec.eps)
        outcome = laboratory.attacked(target, samples, spec.attack, threat, spec.seed, crafted_on)
        return _row(spec, outcome, knowledge.value, outcome.standing), outcome
    if spec.trigger is not None:
        outcome = laboratory.triggered(target, samples, spec.trigger)
        hit = outcome.after == spec.trigger.target_class
        return _row(spec, outcome, "trigger", outcome.after == outcome.labels, float(hit.mean())), outcome
    outcome = laboratory.clean(target, samples)
    return _row(spec, outcome, "none", outcome.after == outcome.labels), outcome


def curve(spec: Curve, session: AuditSession) -> Exhibit:
    """Attack several targets at several budgets."""
    samples = session.samples(spec.samples)
    lines = {}
    for name in spec.targets:
        clean = session.laboratory.clean(session.target(name), samples)
        points = [_point(0.0, clean.after == clean.labels)]
        for eps in spec.eps:
            threat = ThreatModel(goal="untargeted", knowledge=Knowledge.WHITE_BOX, norm=spec.norm, eps=eps)
            attack = spec.attack
            outcome = session.laboratory.attacked(session.target(name), samples, attack, threat, spec.seed)
            points.append(_point(eps, outcome.standing))
        lines[name] = points
    data = {"norm": spec.norm.value, "attack": spec.attack.model_dump(mode="json"), "n": len(samples), "lines": lines}
    return Exhibit(kind="curve", title=spec.title, data=data)


def retrained(name: str, session: AuditSession) -> Exhibit:
    """Compare a released weight file with what its recipe, trained again, gives."""
    released, again = session.target(name), session.retrained_target(name)
    samples = session.dataset.audit
    old, new = session.laboratory.clean(released, samples), session.laboratory.clean(again, samples)
    data = {
        "target": name,
        "identical": released.digest == again.digest,
        "released_accuracy": float((old.after == old.labels).mean()),
        "retrained_accuracy": float((new.after == new.labels).mean()),
        "agreement": float((old.after == new.after).mean()),
        "n": len(samples),
    }
    return Exhibit(kind="comparison", title=f"{name}, released against retrained", data=data)


def of_requirement(requirement_id: str, title: str, outcome: Outcome, classes: int, npz: str) -> tuple[Exhibit, ...]:
    """Return what the report draws of the samples behind a verdict: confusion matrix, and the gallery if moved."""
    confusion = Exhibit(
        kind="confusion",
        title=f"{requirement_id} {title}",
        data={"matrix": confusion_matrix(outcome, classes), "n": len(outcome.labels)},
        files=(npz,),
    )
    if not bool((outcome.arrays["gallery_clean"] != outcome.arrays["gallery_moved"]).any()):
        return (confusion,)
    return confusion, gallery(f"{requirement_id} {title}", outcome, npz)


def gallery(title: str, outcome: Outcome, npz: str) -> Exhibit:
    """Return the first images of an outcome, before and after, with the classes predicted for them."""
    shown = len(outcome.arrays["gallery_clean"])
    data = {name: getattr(outcome, name)[:shown].tolist() for name in ("labels", "before", "after")}
    return Exhibit(kind="gallery", title=title, data=data, files=(npz,))


def confusion_matrix(outcome: Outcome, classes: int) -> list[list[int]]:
    """Return counts by true class (row) and predicted class (column)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (outcome.labels, outcome.after), 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def _row(spec: Scenario, outcome: Outcome, knowledge: str, right: Any, asr: float | None = None) -> Exhibit:
    n = len(outcome.labels)
    low, high = metrics.proportion_interval(int(right.sum()), n, CONFIDENCE)
    seconds = outcome.description["inference_seconds"]
    loss = float(outcome.arrays["loss"].mean())
    data = {
        "target": spec.target,
        "attack": None if spec.attack is None else spec.attack.model_dump(mode="json"),
        "norm": spec.norm.value if spec.attack else None,
        "eps": spec.eps,
        "knowledge": knowledge,
        "crafted_on": spec.crafted_on,
        "n": n,
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "attack_success_rate": asr,
        "loss": loss if math.isfinite(loss) else None,
        "inference_seconds": seconds,
        "milliseconds_per_image": 1000 * seconds / n,
        "attack_seconds": outcome.description["attack_seconds"],
        "measured_at": outcome.description["measured_at"],
        "from_store": outcome.from_store,
    }
    return Exhibit(kind="scenario", title=spec.label, data=data)


def _point(eps: float, right: Any) -> dict[str, float]:
    low, high = metrics.proportion_interval(int(right.sum()), len(right), CONFIDENCE)
    return {"eps": eps, "accuracy": float(right.mean()), "low": low, "high": high}
