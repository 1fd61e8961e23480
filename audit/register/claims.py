"""What a register claims, held against the verdicts of a run and against the calendar. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from audit.records import Finding, Severity, Status, Stride
from audit.references import problem
from audit.register.records import Register, Threat, ThreatStatus
from audit.terms import too_long

WAIVED = "waived"
NOT_EXAMINED = "not examined"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a register is held against: a run, its policy, and its waivers.

    Args:
        verdicts: of this run so far.
        known: the requirements of the policy, each with the categories that it counters. Those of the register itself
            counter none: a register that vouched for itself would prove nothing.
        waived: requirements of which a failure is accepted; such a one proves nothing.
        elements: those that the register must hold.
    """

    verdicts: Mapping[str, Status]
    known: Mapping[str, tuple[Stride, ...]]
    waived: frozenset[str] = frozenset()
    elements: tuple[str, ...] = ()

    def state(self, name: str) -> str:
        """Return what this run says of a requirement: its verdict, that it is waived, or that it was not examined."""
        verdict = self.verdicts.get(name)
        if verdict is None or verdict is Status.NOT_RUN:
            return NOT_EXAMINED
        return WAIVED if verdict is not Status.INCONCLUSIVE and name in self.waived else verdict.value

    def met(self, threat: Threat) -> list[str]:
        """Return the requirements of a threat that were met in this run, and are not waived."""
        return [name for name in threat.requirements if self.state(name) == Status.MET]

    def proves(self, threat: Threat, category: Stride) -> bool:
        """Tell whether a requirement of a threat was met that counters the category of the threat's cell."""
        return any(category in self.known.get(name, ()) for name in self.met(threat))


def holes(register: Register, seen: Seen, path: str) -> list[Finding]:
    """Return every hole: a cell without an answer, a claim that this run does not bear out, an id that is none.

    Args:
        register: what is claimed.
        seen: what it is held against. A waived requirement neither refutes nor proves.
        path: of the register, for the findings.
    """
    found = [*_missing(register, seen), *_unanswered(register), *_repeated(register)]
    for category, threat in register.placed():
        found += [("reference", f"{threat.id}: {wrong}") for wrong in map(problem, threat.references) if wrong]
        found += _unsupported(threat, category, seen)
    return [_finding(path, rule, message) for rule, message in found]


def out_of_date(register: Register, today: date, stale_days: int, path: str) -> list[Finding]:
    """Return what is accepted or transferred and ended before ``today`` or lasts too long, and every stale review.

    A review is stale when it is older than ``stale_days``.
    """
    found = [*_ended(register, today)]
    for element in register.elements:
        age = (today - element.reviewed).days
        if age > stale_days:
            found.append(("stale", f"{element.id}: reviewed {age} days ago, {stale_days} allowed; review it again"))
        elif element.reviewed > today + timedelta(days=1):  # a day ahead is a matter of time zones
            found.append(("not yet", f"{element.id}: reviewed on {element.reviewed}, which is yet to come"))
    return [_finding(path, rule, message) for rule, message in found]


def unclaimed(register: Register, seen: Seen) -> list[str]:
    """Return the requirements of the policy that no threat names. That is allowed: a threshold stays one YAML entry."""
    claimed = {name for threat in register.threats() for name in threat.requirements}
    return [name for name in seen.known if name not in claimed]


def cell_count(register: Register) -> int:
    """Return how many cells there are to answer."""
    return len(register.elements) * len(Stride)


def _ended(register: Register, today: date) -> Iterator[tuple[str, str]]:
    for threat in register.threats():
        if threat.expires is not None and threat.expires < today:
            yield "expired", f"{threat.id}: {threat.status} until {threat.expires} only; fix it, or decide again"
        elif threat.expires is not None and (limit := too_long(threat.expires, today)):
            yield "too long", f"{threat.id}: {threat.status} until {threat.expires}; that may last {limit}"


def _missing(register: Register, seen: Seen) -> Iterator[tuple[str, str]]:
    present = {element.id for element in register.elements}
    for name in seen.elements:
        if name not in present:
            yield "missing", f"{name}: this element of the system is not in the register"
    ends = {end for flow in register.flows for end in (flow.source, flow.target)}
    for element in register.elements:
        if len(register.elements) > 1 and element.id not in ends:
            yield "unconnected", f"{element.id}: no data flow reaches this element, or leaves it"


def _unanswered(register: Register) -> Iterator[tuple[str, str]]:
    for element in register.elements:
        for category in Stride:
            if not element.cells.get(category):
                yield "unanswered", f"{element.id} x {in_words(category)}: neither a threat nor a reason why not"


def _repeated(register: Register) -> Iterator[tuple[str, str]]:
    ids = [threat.id for threat in register.threats()]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield "duplicate", f"{name}: this id is used {ids.count(name)} times"


def _unsupported(threat: Threat, category: Stride, seen: Seen) -> Iterator[tuple[str, str]]:
    if threat.status is not ThreatStatus.MITIGATED:
        return
    for name in threat.requirements:
        if name not in seen.known:
            yield "unknown", f"{threat.id}: names {name}, which is no requirement of this policy"
        elif seen.state(name) == Status.NOT_MET:
            yield "refuted", f"{threat.id}: claims mitigation by {name}, which is NOT_MET"
    if not seen.met(threat):
        states = ", ".join(f"{name} ({seen.state(name).replace('_', ' ')})" for name in threat.requirements)
        yield "unproved", f"{threat.id}: none of its requirements is MET in this run: {states}"
    elif not seen.proves(threat, category):
        countered = ", ".join(f"{name} ({_letters(seen.known.get(name, ()))})" for name in seen.met(threat))
        claim = f"none of its requirements that are MET counters {in_words(category)} ({category}): {countered}"
        remedy = "name one that does, move the threat to its cell, or accept it"
        yield "beside the point", f"{threat.id}: {claim}; {remedy}"


def in_words(category: Stride) -> str:
    """Return the name of a category as it is written in a sentence."""
    return category.name.replace("_", " ").lower()


def _letters(categories: Sequence[Stride]) -> str:
    return f"counters {', '.join(categories)}" if categories else "counters nothing"


def _finding(path: str, rule: str, message: str) -> Finding:
    return Finding(tool="register", rule=rule, severity=Severity.HIGH, path=path, message=message)
