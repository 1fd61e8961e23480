"""POI-004: what is left of a backdoor when the poisoned data were cleaned and the network trained again."""

from __future__ import annotations

from audit import metrics
from audit.errors import TargetError
from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.outcome import Outcome
from audit.poisoning.catalogue import Trial
from audit.poisoning.plan import Poisoning
from audit.records import Evidence, Measurement, Probe
from audit.requirements import CureRequirement
from audit.session import AuditSession


@refusals_are_doubts
def cure(requirement: CureRequirement, session: AuditSession) -> Examined:
    """Measure the excess attack success rate of the poisoning's own trigger on the network that was cured."""
    cured = session.target(requirement.cured)
    poison = poison_of(requirement.cured, session)
    if poison.trigger is None:
        raise TargetError(f"target {requirement.cured}: its poisoning has no trigger, so there is no backdoor to cure")
    references = session.trainer.references(requirement.reference_networks)
    trial = Trial((poison.trigger,), references, session, requirement.bound)
    samples = session.samples(requirement.samples)
    found = trial.excesses(cured, samples)
    control = requirement.control

    def measure_control() -> Measurement:
        return trial.measure(trial.excesses(session.target(control.target), session.samples(control.samples)))

    clean = session.laboratory.clean(cured, samples)
    accuracies = [one.right(samples) / len(samples) for one in references]
    evidence = Evidence(
        measurement=trial.measure(found),
        probes=(_keeps_accuracy(clean, accuracies, requirement.most_lost), trial.clean_references(samples)),
        control=control_result(control_name(control), requirement.bound, measure_control),
        tables={"triggers": [trial.row(one) for one in found], "cure": _removed(requirement.cured, session)},
    )
    return evidence, found[0].outcome


def poison_of(cured: str, session: AuditSession) -> Poisoning:
    """Return the poisoning whose traces a target's training data were cleaned of.

    Raises:
        TargetError: there is none.
    """
    spec = session.spec(session.spec(cured).sanitises or "")
    if spec.poison is None:
        raise TargetError(f"target {cured}: expected to sanitise a target that is poisoned")
    return spec.poison


def _removed(cured: str, session: AuditSession) -> dict[str, object]:
    """Return how much was removed, and how much of that was poison."""
    source = session.spec(cured).sanitises or ""
    done, found = session.trainer.poisoned(source, poison_of(cured, session)), session.detected(source)
    return {"cured": cured, "poisoned": source, **found.against(done.rows)}


def _keeps_accuracy(cured: Outcome, references: list[float], most_lost: float) -> Probe:
    """Return whether the cured network answers clean images about as well as clean networks do on average."""
    right = int((cured.after == cured.labels).sum())
    usual = sum(references) / len(references)
    low, high = metrics.proportion_interval(right, len(cured), 0.95)
    lost = usual - right / len(cured)
    return Probe(
        name=f"the cure costs at most {100 * most_lost:g} points of clean accuracy",
        passed=lost <= most_lost,
        detail=f"cured {right / len(cured):.4f} [{low:.4f}, {high:.4f}], clean references {usual:.4f} on average",
    )
