"""Exhibits: the scenario table, the accuracy-eps curves, and what the report draws of a requirement's samples."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit import by_class, metrics
from audit.attacks import Attack
from audit.exhibits import Curve, DefenceCheck, Scenario
from audit.loading import Samples
from audit.outcome import Outcome, confusion_matrix, rates
from audit.records import Exhibit, Knowledge, Norm, ThreatModel
from audit.sequential import anytime_interval
from audit.session import AuditSession
from audit.trial import Shown

CONFIDENCE = 0.95


def scenario(spec: Scenario, session: AuditSession) -> tuple[Exhibit, Outcome]:
    """Show a target something; returns one row of the scenario table, and the samples behind it."""
    laboratory, samples = session.laboratory, session.samples(spec.samples)
    target = session.target(spec.target)
    if spec.attack is not None:
        crafted_on = session.target(spec.crafted_on) if spec.crafted_on else None
        knowledge = Knowledge.TRANSFER if crafted_on else Knowledge.WHITE_BOX
        unbounded = target.bounds[1] - target.bounds[0]  # the budget of what keeps to no ball
        threat = ThreatModel(goal="untargeted", knowledge=knowledge, norm=spec.norm, eps=spec.eps or unbounded)
        outcome = laboratory.attacked(target, samples, spec.attack, threat, spec.seed, crafted_on=crafted_on)
        row = _row(
            spec.label, spec.target, outcome, _shown(knowledge, spec.attack), outcome.standing,
            attack=spec.attack, norm=spec.norm, eps=spec.eps, crafted_on=spec.crafted_on,
        )  # fmt: skip
        return row, outcome
    if spec.trigger is not None:
        others = samples.where(samples.labels.ne(spec.target_class or 0))
        outcome = laboratory.triggered(target, others, spec.trigger)
        (rate,) = (one for one in rates(spec.target, outcome, target.classes) if one.target_class == spec.target_class)
        right = outcome.after == outcome.labels
        return _row(spec.label, spec.target, outcome, "trigger", right, asr=rate.value), outcome
    outcome = laboratory.clean(target, samples)
    return _row(spec.label, spec.target, outcome, "none", outcome.after == outcome.labels), outcome


def curve(spec: Curve, session: AuditSession) -> Exhibit:
    """Attack several targets at several budgets."""
    samples = session.samples(spec.samples)
    lines = {}
    sizes = [max(spec.eps)] if spec.attack.minimal else spec.eps
    for name in spec.targets:
        session.target(name)  # once, not once in each process
    session.laboratory.workers.side_by_side(
        [partial(_attacked, spec, session, name, eps, samples) for name in spec.targets for eps in sizes]
    )
    for name in spec.targets:
        clean = session.laboratory.clean(session.target(name), samples)
        points = [_point(0.0, clean.after == clean.labels)]
        if spec.attack.minimal:
            outcome = _attacked(spec, session, name, max(spec.eps), samples)
            points += [_point(eps, outcome.standing | _farther(outcome, eps)) for eps in spec.eps]
        else:
            outcomes = [(eps, _attacked(spec, session, name, eps, samples)) for eps in spec.eps]
            points += [_point(eps, outcome.standing) for eps, outcome in outcomes]
        lines[name] = points
    data = {"norm": spec.norm.value, "attack": spec.attack.describe(), "n": len(samples), "lines": lines}
    return Exhibit(kind="curve", title=spec.title, data=data)


def _attacked(spec: Curve | DefenceCheck, session: AuditSession, name: str, eps: float, samples: Samples) -> Outcome:
    threat = ThreatModel(goal="untargeted", knowledge=Knowledge.WHITE_BOX, norm=spec.norm, eps=eps)
    return session.laboratory.attacked(session.target(name), samples, spec.attack, threat, spec.seed)


def _farther(outcome: Outcome, eps: float) -> NDArray[np.bool_]:
    """Return which samples were broken by no perturbation as small as eps."""
    far: NDArray[np.bool_] = (outcome.before == outcome.labels) & (outcome.arrays["distance"] > eps + 1e-6)
    return far


def defence(spec: DefenceCheck, session: AuditSession) -> Exhibit:
    """Attack a defended target as is often done, with images crafted on the network alone, and through the defence.

    Its robust accuracy is what stands under both: gradients through a defence may be the worse guide, those of an
    ensemble with an overconfident member for example.
    """
    policy = session.file.policy
    inner, samples = policy.targets[spec.target].wraps or "", session.samples(spec.samples)
    target, laboratory = session.target(spec.target), session.laboratory
    transfer = ThreatModel(goal="untargeted", knowledge=Knowledge.TRANSFER, norm=spec.norm, eps=spec.eps)
    apparent = laboratory.attacked(target, samples, spec.attack, transfer, spec.seed, crafted_on=session.target(inner))
    through = _attacked(spec, session, spec.target, spec.eps, samples)
    clean = laboratory.clean(target, samples)
    data = {
        "target": spec.target,
        "defence": policy.targets[spec.target].model_dump(mode="json")["defence"],
        "wraps": inner,
        "attack": spec.attack.describe(),
        "norm": spec.norm.value,
        "eps": spec.eps,
        "n": len(samples),
        "clean": _point(0.0, clean.after == clean.labels),
        "worst": _point(spec.eps, apparent.standing & through.standing),
        "apparent": _point(spec.eps, apparent.standing),
        "through": _point(spec.eps, through.standing),
    }
    return Exhibit(kind="defence", title=spec.target, data=data)


def seen(session: AuditSession) -> tuple[Exhibit, ...]:
    """Return a row of the scenario table for everything that targets were shown for the verdicts, computed anyway."""
    return tuple(_seen(one) for one in sorted(session.shown, key=lambda one: one.label))


def _seen(one: Shown) -> Exhibit:
    if one.attack is None or one.threat_model is None:
        return _row(one.label, one.target, one.outcome, "none", one.outcome.after == one.outcome.labels)
    threat = one.threat_model
    knowledge = _shown(threat.knowledge, one.attack)
    return _row(
        one.label, one.target, one.outcome, knowledge, one.outcome.standing,
        attack=one.attack, norm=threat.norm, eps=threat.eps, crafted_on=one.crafted_on,
    )  # fmt: skip


def worst_case(session: AuditSession) -> tuple[Exhibit, ...]:
    """Return, for each norm, how many samples stood under every attack of this run within the largest budget.

    A perturbation within a smaller budget lies within a larger one too. Counted are the samples that every
    requirement's attack saw; what the challengers found on some of them counts as well.
    """
    found = []
    for norm in Norm:
        attacks = [one for one in session.shown if one.on_target and one.threat_model and one.threat_model.norm is norm]
        if attacks:
            found.append(_worst(norm, attacks))
    return tuple(found)


def _worst(norm: Norm, attacks: list[Shown]) -> Exhibit:
    shared = set.intersection(*(set(one.outcome.arrays["index"].tolist()) for one in attacks if not one.challenger))
    first = attacks[0].outcome
    right = {int(place) for place in first.arrays["index"][first.before == first.labels]}
    standing, broken = shared & right, {"nothing: wrong already": len(shared - right)}
    for one in sorted(attacks, key=lambda one: (one.challenger, len(one.outcome.stages) > 1, _eps(one))):
        outcome = one.outcome
        fell = {int(place) for place in outcome.arrays["index"][~outcome.standing]} & standing
        stages = outcome.arrays["broken_by"]
        for index, stage in enumerate(outcome.stages):
            by = {int(place) for place in outcome.arrays["index"][stages == index]} & fell
            label = one.label if len(outcome.stages) == 1 else f"{one.label}: {stage}"
            broken[label] = broken.get(label, 0) + len(by)
        standing -= fell
    n = len(shared)
    low, high = anytime_interval(len(standing), n, CONFIDENCE)
    eps = max(_eps(one) for one in attacks)
    data = {"norm": norm.value, "eps": eps, "n": n, "standing": len(standing) / n, "low": low, "high": high}
    return Exhibit(kind="worst_case", title=f"{norm.value}, eps up to {eps:g}", data={**data, "broken_first": broken})


def _eps(one: Shown) -> float:
    return one.threat_model.eps if one.threat_model else 0.0


def _shown(knowledge: Knowledge, attack: Attack) -> str:
    """Return what the attack knew: transferred, or what it needs itself; noise and corruption know nothing."""
    if attack.name in ("noise", "corruption"):
        return "no adversary"
    return knowledge.value if knowledge is Knowledge.TRANSFER else attack.knowledge.value


def retrained(name: str, session: AuditSession) -> Exhibit:
    """Compare a released weight file with what its recipe, trained again, gives."""
    released, again = session.target(name), session.retrained_target(name)
    samples = session.samples("all")
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
        data={"matrix": confusion_matrix(outcome, classes).tolist(), "n": len(outcome.labels)},
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


def _row(
    label: str,
    target: str,
    outcome: Outcome,
    knowledge: str,
    right: Any,
    *,
    attack: Attack | None = None,
    norm: Norm | None = None,
    eps: float | None = None,
    crafted_on: str | None = None,
    asr: float | None = None,
) -> Exhibit:
    n = len(outcome.labels)
    low, high = metrics.proportion_interval(int(right.sum()), n, CONFIDENCE)
    seconds = outcome.description["inference_seconds"]
    loss = float(outcome.arrays["loss"].mean())
    data = {
        "target": target,
        "attack": None if attack is None else attack.describe(),
        "norm": norm.value if norm and eps else None,
        "eps": eps,
        "knowledge": knowledge,
        "crafted_on": crafted_on,
        "n": n,
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "worst_class": by_class.worst_share(outcome.labels, right),
        "attack_success_rate": asr,
        "loss": loss if math.isfinite(loss) else None,
        "inference_seconds": seconds,
        "milliseconds_per_image": 1000 * seconds / n,
        "attack_seconds": outcome.description["attack_seconds"],
        "measured_at": outcome.description["measured_at"],
        "from_store": outcome.from_store,
    }
    return Exhibit(kind="scenario", title=label, data=data)


def _point(eps: float, right: Any) -> dict[str, float]:
    low, high = metrics.proportion_interval(int(right.sum()), len(right), CONFIDENCE)
    return {"eps": eps, "accuracy": float(right.mean()), "low": low, "high": high}
