"""Exhibits of the poisoning family: the table of poisonings, class by class, and STRIP. Nothing here is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit import metrics
from audit.exhibits import PoisonScenario, PoisonTable, RuntimeCheck
from audit.outcome import Outcome, confusion_matrix
from audit.poisoning import strip
from audit.poisoning.catalogue import Trial
from audit.poisoning.detectors import DETECTORS, detected
from audit.records import Bound, Exhibit, Metric
from audit.requirements import TriggerRequirement
from audit.session import AuditSession
from audit.target import TorchTarget

CONFIDENCE = 0.95
FALSE_ALARMS = (0.01, 0.05)
THRESHOLD_FROM, OVERLAID = 0.5, 200  # share of the clean images that set the threshold; images to superimpose
_EXCESS = Bound(metric=Metric.EXCESS_ASR, at_most=0.0, confidence=CONFIDENCE)


def poisoned(spec: PoisonScenario, table: PoisonTable, session: AuditSession) -> tuple[Exhibit, ...]:
    """Train on one poisoned copy, and return a row of the table and how classes are turned into one another."""
    name, poison = table.reference_networks.target, spec.poison
    target, samples = session.poisoned_target(name, spec.label, poison), session.samples("all")
    references = session.trainer.references(table.reference_networks)
    done = session.trainer.poisoned(f"{name}, {spec.label}", poison)
    clean = session.laboratory.clean(target, samples)
    usual = [one.right(samples) / len(samples) for one in references]
    data: dict[str, Any] = {
        "labels": poison.labels,
        "trigger": poison.trigger.text if poison.trigger else None,
        "target_class": poison.target_class,
        "poisoned": len(done.rows),
        "n_training": len(done.labels),
        "share": len(done.rows) / len(done.labels),
        "n": len(samples),
        "clean": _proportion(clean.after == clean.labels),
        "clean_references": sum(usual) / len(usual),
        "reference_count": len(references),
        "attack": None,
        "done": done.describe(),
        "detectors": _detectors(target, spec, name, session),
    }
    if poison.trigger is None:
        return (Exhibit(kind="poisoning", title=spec.label, data=data),)
    shown = session.laboratory.triggered(target, samples, poison.trigger)
    data["under_trigger"] = _proportion(shown.after == shown.labels)
    turned = [
        _turned(session.laboratory.triggered(one.target, samples, poison.trigger), spec, one.target)
        for one in references
    ]
    data["attack"] = _proportion(_turned(shown, spec, target))
    data["attack_on_references"] = max(float(one.mean()) for one in turned)
    if poison.labels != "all-to-all":
        (excess,) = Trial((poison.trigger,), references, session, _EXCESS).excesses(target, samples)
        data["excess"] = excess.value
    matrix = _turning(shown, target.classes)
    return (
        Exhibit(kind="poisoning", title=spec.label, data=data),
        Exhibit(kind="turned", title=spec.label, data={"matrix": matrix.tolist(), "n": len(samples)}),
    )


def gallery(requirement: TriggerRequirement, session: AuditSession) -> tuple[Exhibit, dict[str, NDArray[Any]]]:
    """Return an image under every trigger of a catalogue, and under a placebo of it, and what they are called."""
    image, bounds = session.samples("all").images[:1], session.spec(session.target_name).bounds
    pairs = [
        (trigger.stamp(image, bounds), trigger.stamp(image, bounds, placebo=0)) for trigger in requirement.triggers
    ]
    arrays = {
        "original": image.numpy(),
        "stamped": torch.cat([stamped for stamped, _ in pairs]).numpy(),
        "placebos": torch.cat([placebo for _, placebo in pairs]).numpy(),
    }
    data = {"triggers": [trigger.text for trigger in requirement.triggers], "bounds": list(bounds)}
    return Exhibit(kind="triggers", title=f"{requirement.id} {requirement.title}", data=data), arrays


def runtime(spec: RuntimeCheck, session: AuditSession) -> Exhibit:
    """Show clean and triggered images to STRIP; half of the clean ones set its threshold, the other half check it."""
    target, samples = session.target(spec.target), session.samples(spec.samples)
    overlays, images = samples.images[:OVERLAID], samples.images[OVERLAID:]
    labels = samples.labels[OVERLAID:]
    generator = torch.Generator().manual_seed(spec.seed)
    clean = strip.entropies(target, images, overlays, generator)
    stamped = spec.trigger.stamp(images[labels != spec.target_class], target.bounds)
    stamped = stamped[target.predict(stamped) == spec.target_class]  # where the backdoor fires
    triggered = strip.entropies(target, stamped, overlays, generator)
    half = int(THRESHOLD_FROM * len(clean))
    rows = []
    for share in FALSE_ALARMS:
        threshold, caught = strip.detected(clean[:half], triggered, share)
        alarms = _proportion((clean[half:] < threshold).numpy())
        rows.append({"asked": share, "threshold": threshold, "caught": _proportion(caught.numpy()), "alarms": alarms})
    data = {"trigger": spec.trigger.text, "clean": len(clean), "triggered": len(triggered), "rows": rows}
    return Exhibit(kind="strip", title=spec.target, data=data)


def _turned(shown: Outcome, spec: PoisonScenario, target: TorchTarget) -> NDArray[np.bool_]:
    """Return, for each image that could be, whether the trigger turned it to what the poisoning wants."""
    poison = spec.poison
    if poison.labels == "all-to-all":
        hit: NDArray[np.bool_] = (shown.after == (shown.labels + 1) % target.classes) & (shown.before == shown.labels)
        return hit
    others: NDArray[np.bool_] = shown.labels != poison.target_class
    if poison.source_classes is not None:
        others &= np.isin(shown.labels, poison.source_classes)
    turned: NDArray[np.bool_] = ((shown.after == poison.target_class) & (shown.before != poison.target_class))[others]
    return turned


def _turning(shown: Outcome, classes: int) -> NDArray[np.float64]:
    """Return (classes, classes) shares of the images of a class (row) that the trigger turned into another (column)."""
    fresh = shown.arrays | {"after": np.where(shown.after == shown.before, shown.labels, shown.after)}
    counts = confusion_matrix(Outcome(fresh, shown.description, shown.from_store), classes)
    np.fill_diagonal(counts, 0)
    sizes = np.bincount(shown.labels, minlength=classes)[:, None]
    shares: NDArray[np.float64] = counts / np.maximum(sizes, 1)
    return shares


def _detectors(target: TorchTarget, spec: PoisonScenario, name: str, session: AuditSession) -> list[dict[str, Any]]:
    done = session.trainer.poisoned(f"{name}, {spec.label}", spec.poison)
    found = detected(session.laboratory, target, done.samples)
    return [found.against(done.rows, one) for one in (None, *DETECTORS)]


def _proportion(hits: NDArray[np.bool_]) -> dict[str, float]:
    low, high = metrics.proportion_interval(int(hits.sum()), len(hits), CONFIDENCE)
    return {"value": float(hits.mean()), "low": low, "high": high, "n": len(hits)}
