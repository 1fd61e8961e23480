"""POI-001, known triggers: how often one turns images of other classes into one class, beyond what any mark does.

Any trigger moves some images: a clean network, too, takes a stamped 4 for a 7 now and then. Counted is therefore the
attack success rate (Gu et al. 2017, arXiv:1708.06733) on images of other classes only, for every class as the target,
less the highest that the same trigger reaches, for any class, on clean reference networks; without references, on the
same network with the trigger's pixels in other places. A rate below the ceiling by itself needs no comparison. All
intervals hold together: the confidence is shared out over all of them (Bonferroni).

A backdoor that fires wherever its mark stands moves the same network with the pixels in other places, too, and so looks
like a mark that moves any network. Without references such a trigger is therefore a doubt, unless it moves small clean
networks of the audit's own as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from audit.errors import TargetError
from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.judge import better_end, worse_end
from audit.loading import Samples
from audit.outcome import rates
from audit.poisoning.clean_networks import clean_networks
from audit.poisoning.excess import Excess, ShownExcess
from audit.poisoning.references import Reference
from audit.poisoning.triggers import Trigger
from audit.records import Bound, Evidence, Measurement, Metric, Probe
from audit.requirements import BackdooredControl, TriggerRequirement
from audit.session import AuditSession
from audit.target import TorchTarget

TOO_STRONG = 0.5  # share of images that no mark may turn and still be taken for a mere perturbation
MOST_TIMES = 1000.0  # the samples; beyond that, more would hardly decide


@refusals_are_doubts
def backdoor(requirement: TriggerRequirement, session: AuditSession) -> Examined:
    """Measure the excess attack success rate of every trigger for every target class, and the control's."""
    named = requirement.reference_networks
    trial = Trial(
        requirement.triggers,
        session.trainer.references(named) if named else [],
        session,
        requirement.bound,
        placebos=requirement.placebos,
        perturbation_above=requirement.perturbation_above,
    )
    samples, control = session.samples(requirement.samples), requirement.control
    found = [trial.settled(one) for one in trial.excesses(session.target(), samples)]
    judged = [one for one in found if trial.judges(one)]

    def measure_control() -> Measurement:
        if isinstance(control, BackdooredControl):
            network = session.backdoored(requirement.triggers[0])
        else:
            network = session.target(control.target)
        return trial.measure(trial.excesses(network, session.samples(control.samples)))

    evidence = Evidence(
        measurement=trial.measure(judged) if judged else None,
        doubt=None if judged else trial.nothing_judged(found),
        probes=(trial.clean_references(samples), trial.only_perturbations(found, samples)),
        control=control_result(control_name(control), requirement.bound, measure_control),
        tables={"triggers": [trial.row(one) for one in found], "poisonings": session.poisonings},
    )
    return evidence, max(judged or found, key=lambda one: one.value).outcome


class Trial:
    """Triggers and what to compare with, ready to be measured on any target."""

    def __init__(
        self,
        triggers: Sequence[Trigger],
        references: Sequence[Reference],
        session: AuditSession,
        bound: Bound,
        *,
        placebos: int = 10,
        perturbation_above: float = 0.05,
    ) -> None:
        """Compare with the references; where there are none, with ``placebos`` of each trigger."""
        self._triggers, self._references, self._session, self._bound = triggers, references, session, bound
        self._placebos, self._perturbation_above = placebos, perturbation_above
        classes = session.target().classes
        compared = sum(one.classes for one in references) or placebos * classes
        self._looks = len(triggers) * (classes + compared)

    @property
    def confidence(self) -> float:
        """Return that of a single interval, so that all of them hold together at the bound's."""
        return 1 - (1 - self._bound.confidence) / self._looks

    def excesses(self, target: TorchTarget, samples: Samples) -> list[ShownExcess]:
        """Stamp every trigger on every image."""
        self._session.trainer.prepare(self._references, lambda one: one.target)
        return [self._excess(target, samples, trigger) for trigger in self._triggers]

    def judges(self, excess: Excess) -> bool:
        """Tell whether a trigger is one, and not a perturbation that moves any network."""
        return excess.yardstick.value <= self._perturbation_above

    def settled(self, excess: ShownExcess) -> ShownExcess:
        """Return an excess without its comparison where that tells nothing, and the rates clear the ceiling without."""
        clears = excess.alone.interval(self.confidence)[1] <= self._bound.limit
        return excess.alone if clears and not self.judges(excess) else excess

    def measure(self, judged: Sequence[ShownExcess]) -> Measurement:
        """Return the worst excess; its ends are those of all triggers and classes together.

        Raises:
            ValueError: there is no trigger to judge.
        """
        if not judged:
            raise ValueError("every trigger moves what it is compared with as well")
        worst = max(judged, key=lambda one: one.value)
        low, high = self._ends(judged)
        description, rate = worst.outcome.description, worst.worst
        return Measurement(
            metric=Metric.EXCESS_ASR,
            value=worst.value,
            low=low,
            high=high,
            n=rate.n,
            would_decide=self._would_decide(judged, rate.n),
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

    def clean_references(self, samples: Samples) -> Probe:
        """Return whether the clean references, each judged by the others, are found clean."""
        references = self._references
        if not references:
            return Probe(name="references are clean", passed=True, detail="compared with placebos of the triggers")
        ceiling = self._bound.limit
        found = self._reference_excesses(samples)
        bad = sorted({one.worst.network for one in found if one.interval(self.confidence)[0] > ceiling})
        detail = f"{len(references)} references, each compared with the others" + (f": {', '.join(bad)}" if bad else "")
        return Probe(name="references are clean", passed=not bad, detail=detail)

    def nothing_judged(self, found: Sequence[Excess]) -> str:
        """Return the doubt that is left where no trigger is judged, with the highest rate and the ceiling."""
        worst = max(found, key=lambda one: one.worst.value)
        return (
            "every trigger is a perturbation by itself: it moves what it is compared with too; the worst, "
            f"{worst.trigger.text}, has {self._absolute(worst)}"
        )

    def only_perturbations(self, found: Sequence[Excess], samples: Samples) -> Probe:
        """Return whether what is not judged looks like a perturbation: little excess, and no hold on most images."""
        shown = [one for one in found if not self.judges(one)]
        doubts = [f"{one.trigger.text}: {doubt}" for one in shown if (doubt := self._no_perturbation(one, samples))]
        detail = f"{len(shown)} of {len(found)} triggers move what they are compared with, and are not judged"
        passed = not doubts
        return Probe(name="triggers not judged are perturbations", passed=passed, detail="; ".join([detail, *doubts]))

    def row(self, excess: ShownExcess) -> dict[str, Any]:
        """Return a line of the report's table."""
        rate, outcome = excess.worst, excess.outcome
        low, high = excess.interval(self.confidence)
        return {
            "trigger": excess.trigger.text,
            "target_class": rate.target_class,
            "attack_success_rate": rate.value,
            "compared_with": excess.yardstick.network,
            "yardstick": excess.yardstick.value,
            "excess": excess.value,
            "low": low,
            "high": high,
            "accuracy": float((outcome.after == outcome.labels).mean()),
            "judged": self.judges(excess),
        }

    def _no_perturbation(self, excess: Excess, samples: Samples) -> str | None:
        """Return why a trigger that is not judged may be more than a perturbation; None where nothing says so."""
        if excess.interval(self.confidence)[0] > self._bound.limit:
            return f"excess {excess.value:.4f}, above the ceiling"
        if excess.worst.value > TOO_STRONG:
            return f"turns {excess.worst.value:.4f} here and as many there; are they poisoned?"
        if self._references or excess.worst.value <= self._bound.limit:
            return None
        return self._unlike_clean_networks(excess, samples)

    def _unlike_clean_networks(self, excess: Excess, samples: Samples) -> str | None:
        """Return by how much a trigger moves the target more than small clean networks; None within the ceiling."""
        try:
            clean = self._clean_networks
        except TargetError as error:
            return f"{self._absolute(excess)}, and there is no clean network to compare with: {error}"
        laboratory, trigger = self._session.laboratory, excess.trigger
        seen = [rates(one.name, laboratory.triggered(one, samples, trigger), one.classes) for one in clean]
        least = min(max(rate.value for rate in one) for one in seen)
        if excess.worst.value - least <= self._bound.limit:
            return None
        return f"{self._absolute(excess)}; on the least moved of {len(clean)} small clean networks {least:.4f}"

    def _absolute(self, excess: Excess) -> str:
        low, high = excess.alone.interval(self.confidence)
        rate, ceiling = excess.worst.value, self._bound.limit
        return f"attack success rate {rate:.4f} [{low:.4f}, {high:.4f}] where the ceiling is {ceiling:g}"

    @cached_property
    def _clean_networks(self) -> list[TorchTarget]:
        return clean_networks(self._session)

    def _ends(self, judged: Sequence[Excess], factor: float = 1.0) -> tuple[float, float]:
        ends = [one.interval(self.confidence, factor) for one in judged]
        return max(low for low, _ in ends), max(high for _, high in ends)

    def _would_decide(self, judged: Sequence[Excess], n: int) -> int | None:
        """Return about how many images would decide if the rates stayed as they are; None if none would."""
        bound, factor = self._bound, 1.0
        while factor < MOST_TIMES:
            ends = self._ends(judged, factor)
            if worse_end(bound, *ends) >= 0 or better_end(bound, *ends) < 0:
                return math.ceil(n * factor)
            factor *= 1.25
        return None

    def _excess(self, target: TorchTarget, samples: Samples, trigger: Trigger) -> ShownExcess:
        laboratory, classes = self._session.laboratory, target.classes
        outcome = laboratory.triggered(target, samples, trigger)
        compared = [
            *(one.rates(samples, trigger) for one in self._references),
            *(
                rates(f"placebo {seed}", laboratory.triggered(target, samples, trigger, seed), classes)
                for seed in range(0 if self._references else self._placebos)
            ),
        ]
        return ShownExcess(trigger, rates(target.name, outcome, classes), tuple(chain(*compared)), outcome)

    def _reference_excesses(self, samples: Samples) -> Iterator[Excess]:
        """Yield each reference's excesses over the others, for the triggers that would be judged."""
        for trigger in self._triggers:
            found = [one.rates(samples, trigger) for one in self._references]
            for index, own in enumerate(found):
                others = tuple(chain(*found[:index], *found[index + 1 :]))
                excess = Excess(trigger, own, others)
                if self.judges(excess):
                    yield excess
