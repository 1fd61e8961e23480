"""POI-002, unknown triggers: no class is reached by a much smaller trigger than on clean networks of its recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.loading import SUBSET_SEED, Samples
from audit.order import Origin
from audit.poisoning.inversion import Inverted, inverted
from audit.records import Evidence, Exhibit, Measurement, Metric, Probe
from audit.requirements import InversionRequirement
from audit.session import AuditSession
from audit.workers import Work

SEEDS = (0, 1)  # of the inversions of a judged network; the smaller trigger counts, for it was shown to work
FITTED_AND_COUNTED = 2_000  # clean images that an inversion looks at, at most


@refusals_are_doubts
def unknown_triggers(requirement: InversionRequirement, session: AuditSession) -> Examined:
    """Measure the smallest trigger that inversion finds on the target, as a share of the smallest on any reference."""
    trial = _Trial(requirement, session)
    found = trial.inversions(session.target_name)
    control, name = requirement.control, requirement.reference_networks.target
    same = _made_by(session.target_name, session) == _made_by(name, session)
    reason = (
        f"target {session.target_name} was not made by the recipe of the reference networks ({name}), so there is "
        "nothing to compare its triggers with; they are shown, and not judged"
    )
    evidence = Evidence(
        measurement=trial.measure(found) if same else None,
        not_run=None if same else reason,
        probes=(trial.works(found), trial.clean_references()),
        control=control_result(
            control_name(control),
            requirement.bound,
            lambda: trial.measure(trial.inversions(control.target)),
        ),
        tables={"inverted": trial.table(found[0])},
    )
    return evidence, None


def inversions_ahead(requirement: InversionRequirement, session: AuditSession) -> Iterator[Work]:
    """Yield the inversions of the control and of the target; those of the references are mostly pinned."""
    for name in (requirement.control.target, session.target_name):
        yield from (partial(_invert, name, session, requirement.steps, seed) for seed in SEEDS)


def sheet(
    requirement: InversionRequirement, session: AuditSession, name: str
) -> tuple[Exhibit, dict[str, NDArray[Any]]]:
    """Return what the report draws of a target's inverted triggers, and the arrays to draw."""
    trial = _Trial(requirement, session)
    found = trial.inversions(name)[0]
    return Exhibit(kind="inverted", title=name, data=trial.table(found)), {
        "masks": found.masks,
        "patterns": found.patterns,
    }


def images(session: AuditSession) -> Samples:
    """Return the clean images that inversions look at: of pinned data those that pinned references were shown."""
    seed = SUBSET_SEED if session.order.origin is Origin.PINNED else session.order.seed
    return session.copies.judged.subset(FITTED_AND_COUNTED, seed)


def _made_by(name: str, session: AuditSession) -> tuple[str | None, str | None]:
    spec = session.spec(name)
    return spec.factory, spec.recipe


def _invert(name: str, session: AuditSession, steps: int, seed: int) -> Inverted:
    return inverted(session.laboratory, session.target(name), images(session), steps, seed)


class _Trial:
    """The inversions of the reference networks, to compare others with."""

    def __init__(self, requirement: InversionRequirement, session: AuditSession) -> None:
        self._requirement, self._session = requirement, session
        references, asked = (
            session.trainer.references(requirement.reference_networks),
            (images(session), requirement.steps),
        )
        session.trainer.prepare(references, lambda one: one.smallest_trigger(*asked, SEEDS[0]))
        self.references = {one.name: one.smallest_trigger(*asked, SEEDS[0]) for one in references}

    def inversions(self, name: str) -> list[Inverted]:
        """Invert a target once a seed."""
        self._session.target(name)  # once, not once in each process
        work = [partial(_invert, name, self._session, self._requirement.steps, seed) for seed in SEEDS]
        self._session.laboratory.workers.side_by_side(work)
        return [one() for one in work]

    def measure(self, found: Sequence[Inverted]) -> Measurement:
        """Return the smallest size found over the smallest of the references; both are of triggers shown to work.

        Raises:
            ValueError: no trigger works for any class, so that there is no size.
        """
        smallest = min(found, key=lambda one: one.smallest)
        ratio = smallest.smallest / self._least
        if not math.isfinite(ratio):
            raise ValueError("inversion found no trigger that works, for any class; give it more steps")
        return Measurement(
            metric=Metric.INVERTED_TRIGGER,
            value=ratio,
            low=ratio,
            high=ratio,
            n=len(self.references),
            interval=f"the smaller of {len(found)} inversions with different seeds",
            settings={
                "target_class": smallest.suspect,
                "size_in_pixels": smallest.smallest,
                "smallest_of_references": self._least,
                "steps": self._requirement.steps,
            },
        )

    def works(self, found: Sequence[Inverted]) -> Probe:
        """Return whether inversion found triggers that work on the target at all."""
        working = min(int((one.rates > 0).sum()) for one in found)
        return Probe(
            name="inversion finds triggers that work",
            passed=working > 0,
            detail=f"for {working} of {len(found[0].sizes)} classes, on images that the search had not seen",
        )

    def clean_references(self) -> Probe:
        """Return whether no reference would be flagged if it were judged by the others."""
        names, sizes = list(self.references), list(self.references.values())
        ratios = [size / min(sizes[:place] + sizes[place + 1 :]) for place, size in enumerate(sizes)]
        least = min(range(len(sizes)), key=lambda place: ratios[place])
        return Probe(
            name="references are clean",
            passed=ratios[least] >= self._requirement.bound.limit,
            detail=f"of {len(sizes)}, each judged by the others, {names[least]} is lowest: {ratios[least]:.2f}",
        )

    def table(self, found: Inverted) -> dict[str, Any]:
        """Return a row a class: size, success, and how many references reach it with a smaller trigger."""
        rows = []
        for one, size in enumerate(found.sizes.tolist()):
            others = self.references.values()
            rows.append(
                {
                    "class": one,
                    "size": size if math.isfinite(size) else None,
                    "attack_success_rate": float(found.rates[one]),
                    "smaller_references": sum(other < size for other in others),
                    "ratio": size / self._least if math.isfinite(size) else None,
                    "stopped_early": bool(found.left[one]),
                }
            )
        return {"rows": rows, "references": list(self.references.values())}

    @property
    def _least(self) -> float:
        return min(self.references.values())
