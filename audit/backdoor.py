"""Backdoors: how often a trigger turns images of other classes into one class, beyond what it does without a backdoor.

Any trigger moves some images: a clean network, too, takes a stamped 4 for a 7 now and then. Counted is therefore the
attack success rate (Gu et al. 2017, arXiv:1708.06733) on images of other classes only, for every class as the target,
less the highest that the same trigger reaches, for any class, on clean reference networks; without references, on the
same network with the same pixels shuffled. All intervals hold together: the confidence is shared out over all of them
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.outcome import Outcome, Rate, rates
from audit.records import Evidence, Measurement, Metric, Probe
from audit.requirements import PoisoningRequirement
from audit.session import AuditSession
from audit.target import TorchTarget
from audit.triggers import Trigger


@dataclass(frozen=True, slots=True)
class Excess:
    """A trigger's highest attack success rate on a target, and the highest on what it is compared with."""

    trigger: Trigger
    rates: tuple[Rate, ...]
    yardstick: Rate
    outcome: Outcome

    def worst(self) -> Rate:
        """Return the rate of the target class that the trigger causes most."""
        return max(self.rates, key=lambda rate: rate.value)

    def value(self) -> float:
        """Return by how much the highest rate exceeds the yardstick; may be negative."""
        return self.worst().value - self.yardstick.value

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return bounds of the excess over all target classes, each of the intervals at this confidence."""
        below, above = self.yardstick.interval(confidence)
        ends = [rate.interval(confidence) for rate in self.rates]
        return max(low for low, _ in ends) - above, max(high for _, high in ends) - below


@refusals_are_doubts
def backdoor(requirement: PoisoningRequirement, session: AuditSession) -> Examined:
    """Measure the excess attack success rate of every trigger for every target class, and the control's."""
    trial = _Trial(requirement, session)
    found = trial.excesses(session.target())
    control = requirement.control
    judged = [one for one in found if trial.judges(one)]
    evidence = Evidence(
        measurement=trial.measure(judged) if judged else None,
        doubt=None if judged else "every trigger is a perturbation by itself: it moves what it is compared with too",
        probes=(trial.clean_references(), trial.only_perturbations(found)),
        control=control_result(
            control_name(control),
            requirement.bound,
            lambda: trial.measure([one for one in trial.excesses(session.target(control.target)) if trial.judges(one)]),
        ),
        tables={"triggers": [trial.row(one) for one in found], "poisonings": session.poisonings},
    )
    return evidence, max(judged or found, key=Excess.value).outcome


class _Trial:
    """One requirement, ready to be measured on any target."""

    def __init__(self, requirement: PoisoningRequirement, session: AuditSession) -> None:
        self._requirement, self._session = requirement, session
        self._samples = session.samples(requirement.samples)
        references = requirement.reference_networks
        self._references = (
            session.references(references.target, references.of(session.options.profile)) if references else []
        )
        compared = len(self._references) or requirement.placebos
        self._looks = len(requirement.triggers) * session.target().classes * (1 + compared)

    @property
    def confidence(self) -> float:
        """Return that of a single interval, so that all of them hold together at the bound's."""
        return 1 - (1 - self._requirement.bound.confidence) / self._looks

    def excesses(self, target: TorchTarget) -> list[Excess]:
        """Stamp every trigger on every image."""
        return [self._excess(target, trigger) for trigger in self._requirement.triggers]

    def judges(self, excess: Excess) -> bool:
        """Tell whether a trigger is one, and not a perturbation that moves any network."""
        return excess.yardstick.value <= self._requirement.perturbation_above

    def measure(self, judged: Sequence[Excess]) -> Measurement:
        """Return the worst excess; its ends are those of all triggers and classes together.

        Raises:
            ValueError: there is no trigger to judge.
        """
        if not judged:
            raise ValueError("every trigger moves what it is compared with as well")
        worst = max(judged, key=Excess.value)
        ends = [one.interval(self.confidence) for one in judged]
        description, rate = worst.outcome.description, worst.worst()
        return Measurement(
            metric=Metric.EXCESS_ASR,
            value=worst.value(),
            low=max(low for low, _ in ends),
            high=max(high for _, high in ends),
            n=rate.n,
            interval=f"exact (Clopper-Pearson), Bonferroni over {self._looks} looks",
            settings={
                "trigger": worst.trigger.text,
                "target_class": rate.target_class,
                "attack_success_rate": rate.value,
                "compared_with": worst.yardstick.network,
                "triggers_judged": len(judged),
            },
            seconds=description["inference_seconds"],
            measured_at=description["measured_at"],
            from_store=worst.outcome.from_store,
        )

    def clean_references(self) -> Probe:
        """Return whether the clean references, each judged by the others, are found clean."""
        references = self._references
        if len(references) < 2:
            return Probe(name="references are clean", passed=True, detail="compared with placebos of the triggers")
        found = [one for index in range(len(references)) for one in self._reference_excesses(index)]
        ceiling = self._requirement.bound.limit
        bad = sorted({one.worst().network for one in found if one.interval(self.confidence)[0] > ceiling})
        detail = f"{len(references)} references, each compared with the others" + (f": {', '.join(bad)}" if bad else "")
        return Probe(name="references are clean", passed=not bad, detail=detail)

    def only_perturbations(self, found: Sequence[Excess]) -> Probe:
        """Return whether the excess of what is not judged stays under the ceiling too."""
        shown = [one for one in found if not self.judges(one)]
        above = [one for one in shown if one.interval(self.confidence)[0] > self._requirement.bound.limit]
        detail = f"{len(shown)} of {len(found)} triggers move what they are compared with, and are not judged"
        for one in above:
            detail += f"; {one.trigger.text}: excess {one.value():.4f}, above the ceiling"
        return Probe(name="triggers not judged are perturbations", passed=not above, detail=detail)

    def row(self, excess: Excess) -> dict[str, Any]:
        """Return a line of the report's table."""
        rate, outcome = excess.worst(), excess.outcome
        low, high = excess.interval(self.confidence)
        return {
            "trigger": excess.trigger.text,
            "target_class": rate.target_class,
            "attack_success_rate": rate.value,
            "compared_with": excess.yardstick.network,
            "yardstick": excess.yardstick.value,
            "excess": excess.value(),
            "low": low,
            "high": high,
            "accuracy": float((outcome.after == outcome.labels).mean()),
            "judged": self.judges(excess),
        }

    def _excess(self, target: TorchTarget, trigger: Trigger) -> Excess:
        outcome = self._session.laboratory.triggered(target, self._samples, trigger)
        compared = [rate for of_network in self._yardsticks(target, trigger) for rate in of_network]
        yardstick = max(compared, key=lambda rate: rate.value)
        return Excess(trigger, rates(target.name, outcome, target.classes), yardstick, outcome)

    def _yardsticks(self, target: TorchTarget, trigger: Trigger) -> Iterator[tuple[Rate, ...]]:
        laboratory = self._session.laboratory
        for reference in self._references:
            shown = laboratory.triggered(reference, self._samples, trigger)
            yield rates(reference.name, shown, reference.classes)
        if not self._references:
            for seed in range(self._requirement.placebos):
                shown = laboratory.triggered(target, self._samples, trigger, placebo=seed)
                yield rates(f"placebo {seed}", shown, target.classes)

    def _reference_excesses(self, index: int) -> Iterator[Excess]:
        laboratory, references = self._session.laboratory, self._references
        for trigger in self._requirement.triggers:
            shown = [laboratory.triggered(one, self._samples, trigger) for one in references]
            all_rates = [rates(one.name, seen, one.classes) for one, seen in zip(references, shown, strict=True)]
            others = [rate for place, found in enumerate(all_rates) if place != index for rate in found]
            yardstick = max(others, key=lambda rate: rate.value)
            if yardstick.value <= self._requirement.perturbation_above:
                yield Excess(trigger, all_rates[index], yardstick, shown[index])
