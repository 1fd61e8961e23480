"""Folds what the test items recorded into one Report. Knows nothing of pytest but the order of its phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from audit.extends import Extension
from audit.gate import Circumstances, decide
from audit.policy import Policy
from audit.records import Evidence, Exhibit, IfNotRun, Report, Status, Timing, TimingKind, Verdict, Waiver


class Collector:
    """Verdicts by requirement id, exhibits in order, and whatever crashed."""

    def __init__(self, expected: Sequence[str], waivers: Sequence[Waiver]) -> None:
        """Expect one verdict for each id."""
        self._expected = tuple(expected)
        self._waivers = tuple(waivers)
        self._verdicts: dict[str, Verdict] = {}
        self._exhibits: list[Exhibit] = []
        self._crashes: list[str] = []
        self._timings: list[Timing] = []
        self.stride_matrix: dict[str, Any] | None = None

    @property
    def waived(self) -> frozenset[str]:
        """Return the ids that a waiver names."""
        return frozenset(waiver.id for waiver in self._waivers)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict for every expected requirement; NOT_RUN where no item came to an end."""
        return tuple(
            self._verdicts.get(name) or _empty(name, Status.NOT_RUN, "its test did not run") for name in self._expected
        )

    def find(self, requirement_id: str) -> Verdict | None:
        """Return the verdict recorded for a requirement, if any."""
        return self._verdicts.get(requirement_id)

    def statuses(self) -> dict[str, Status]:
        """Return the verdicts so far, for the register."""
        return {name: verdict.status for name, verdict in self._verdicts.items()}

    def add_verdict(self, verdict: Verdict) -> None:
        """Keep a recorded verdict."""
        waived = verdict.requirement_id in self.waived and verdict.status is Status.NOT_MET
        self._verdicts[verdict.requirement_id] = verdict.model_copy(update={"waived": waived})

    def add_exhibit(self, exhibit: Exhibit) -> None:
        """Keep an exhibit."""
        self._exhibits.append(exhibit)

    def add_timing(self, name: str, kind: TimingKind, seconds: float, *, beside: bool) -> None:
        """Keep how long something took."""
        self._timings.append(Timing(name=name, kind=kind, seconds=round(seconds, 3), beside=beside))

    @property
    def timings(self) -> tuple[Timing, ...]:
        """Return what took how long: requirements in the policy's order, then exhibits."""
        order = {name: place for place, name in enumerate(self._expected)}
        return tuple(sorted(self._timings, key=lambda one: order.get(one.name, len(order))))

    def item_failed(self, requirement_id: str, reason: str) -> None:
        """Note that an item broke: doubt lowers MET to INCONCLUSIVE and leaves any other verdict alone."""
        known = self._verdicts.get(requirement_id)
        if known is None:
            self._verdicts[requirement_id] = _empty(requirement_id, Status.INCONCLUSIVE, f"crashed: {reason}")
        elif known.status is Status.MET and requirement_id not in self.waived:
            changed = {"status": Status.INCONCLUSIVE, "reason": f"{known.reason}, but the test crashed: {reason}"}
            self._verdicts[requirement_id] = known.model_copy(update=changed)

    def item_skipped(self, requirement_id: str, reason: str) -> None:
        """Note that an item was skipped before it recorded anything."""
        self._verdicts.setdefault(requirement_id, _empty(requirement_id, Status.NOT_RUN, f"skipped: {reason}"))

    def exhibit_failed(self, name: str, reason: str) -> None:
        """Note that an exhibit broke: the report is incomplete."""
        self._crashes.append(f"{name} ({reason})")

    def disbelieve(self, reason: str) -> None:
        """Doubt the whole run: every MET becomes INCONCLUSIVE, whatever it rests on."""
        for name, known in self._verdicts.items():
            if known.status is Status.MET:
                changed = {"status": Status.INCONCLUSIVE, "reason": f"{known.reason}, but {reason}"}
                self._verdicts[name] = known.model_copy(update=changed)

    def report(
        self,
        policy: Policy,
        *,
        header: Mapping[str, Any],
        target: Mapping[str, Any],
        notes: Sequence[str],
        provenance: Mapping[str, Any],
        seconds: float,
        partial: bool,
        allow_incomplete: bool,
        blocked: frozenset[str],
        extension: Extension | None = None,
        policy_changes: Mapping[str, Any] | None = None,
    ) -> Report:
        """Return the finished record, gate included."""
        what_if = {one.id: IfNotRun.BLOCK if one.id in blocked else one.if_not_run for one in policy.requirements}
        around = Circumstances(self.waived, tuple(self._crashes), partial, allow_incomplete)
        if extension is not None:
            around = replace(around, extends=extension.base, dropped=extension.dropped, replaced=extension.replaced)
        return Report(
            gate=decide(self.verdicts, what_if, around),
            policy=dict(header),
            policy_changes=dict(policy_changes) if policy_changes is not None else None,
            target=dict(target),
            partial=partial,
            verdicts=self.verdicts,
            exhibits=tuple(self._exhibits),
            waivers=self._waivers,
            notes=tuple(notes),
            stride_matrix=self.stride_matrix,
            provenance=dict(provenance),
            timings=self.timings,
            seconds=round(seconds, 3),
        )


def _empty(requirement_id: str, status: Status, reason: str) -> Verdict:
    evidence = Evidence(not_run=reason) if status is Status.NOT_RUN else Evidence(doubt=reason)
    return Verdict(requirement_id=requirement_id, status=status, reason=reason, evidence=evidence)
