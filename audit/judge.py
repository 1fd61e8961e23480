"""(Bound, evidence) -> verdict. Pure: sees records only.

The interval decides, not the point; doubt only ever lowers. A failed control, a failed probe or a doubt turns MET into
INCONCLUSIVE and leaves NOT_MET alone, because one verified counter-example needs no further belief.
"""

from __future__ import annotations

from audit.records import Bound, Evidence, Measurement, Status, Verdict


def judge(requirement_id: str, bound: Bound, evidence: Evidence) -> Verdict:
    """Return the verdict on one requirement."""
    status, reason = _decide(bound, evidence)
    measurement = evidence.measurement
    return Verdict(
        requirement_id=requirement_id,
        status=status,
        reason=reason,
        margin=None if measurement is None else margin(bound, measurement),
        measurement=measurement,
        evidence=evidence,
    )


def margin(bound: Bound, measurement: Measurement) -> float:
    """Return how far the interval's worse end clears the bound; negative when it does not."""
    return worse_end(bound, measurement.low, measurement.high)


def worse_end(bound: Bound, low: float, high: float) -> float:
    """Return how far the worse end of an interval clears the bound."""
    return low - bound.limit if bound.at_least is not None else bound.limit - high


def better_end(bound: Bound, low: float, high: float) -> float:
    """Return how far the better end of an interval clears the bound."""
    return high - bound.limit if bound.at_least is not None else bound.limit - low


def compare(bound: Bound, measurement: Measurement) -> Status:
    """Return MET if the worse end clears the bound, NOT_MET if the better end misses it, else INCONCLUSIVE."""
    if margin(bound, measurement) >= 0:
        return Status.MET
    return Status.NOT_MET if better_end(bound, measurement.low, measurement.high) < 0 else Status.INCONCLUSIVE


def describe(bound: Bound, measurement: Measurement) -> str:
    """Return the figures in words: value, interval, n and bound."""
    if measurement.low == measurement.high == measurement.value:
        return f"{measurement.metric} {measurement.value:g}, required {bound.text}"
    return (
        f"{measurement.metric} {measurement.value:.4f} [{measurement.low:.4f}, {measurement.high:.4f}] "
        f"on n={measurement.n}, required {bound.text}"
    )


def _decide(bound: Bound, evidence: Evidence) -> tuple[Status, str]:
    measurement = evidence.measurement
    if measurement is None:
        if evidence.not_run is not None:
            return Status.NOT_RUN, evidence.not_run
        return Status.INCONCLUSIVE, evidence.doubt or "nothing was measured"
    if measurement.metric is not bound.metric:
        return Status.INCONCLUSIVE, f"measured {measurement.metric}, but the bound is on {bound.metric}"
    figures = describe(bound, measurement)
    status = compare(bound, measurement)
    if status is Status.NOT_MET:
        return status, figures + (f": {evidence.meaning}" if evidence.meaning else "") + _first_finding(evidence)
    if evidence.not_run is not None:
        return Status.NOT_RUN, evidence.not_run
    if status is Status.INCONCLUSIVE:
        return status, f"{figures}: the interval straddles the bound; {_remedy(measurement)}"
    doubts = _doubts(evidence)
    return (Status.INCONCLUSIVE, f"{figures}, but {'; '.join(doubts)}") if doubts else (status, figures)


def _remedy(measurement: Measurement) -> str:
    if measurement.remedy is not None:
        return measurement.remedy
    if measurement.would_decide is None:
        return "more samples would hardly decide"
    return f"about {measurement.would_decide:,} samples would probably decide"


def _first_finding(evidence: Evidence) -> str:
    if not evidence.findings:
        return ""
    first = evidence.findings[0]
    where = first.path if first.line is None else f"{first.path}:{first.line}"
    return f"; first: {where}: {first.rule}: {first.message}"


def _doubts(evidence: Evidence) -> list[str]:
    doubts = [f"probe '{probe.name}' failed: {probe.detail}" for probe in evidence.probes if not probe.passed]
    if evidence.control is None:
        doubts.append("its control did not run")
    elif evidence.control.status is not Status.NOT_MET:
        control = evidence.control
        doubts.append(f"its control {control.name} came out {control.status}, not NOT_MET: {control.detail}")
    if evidence.doubt:
        doubts.append(evidence.doubt)
    return doubts
