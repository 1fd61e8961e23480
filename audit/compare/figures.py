"""How measured figures differ: beyond their intervals, or within. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from audit.compare.changes import Change, same, transition
from audit.compare.reading import Audit, Figure

CIRCUMSTANCES = {"limit": "limit of n", "interval": "interval", "seed": "seed", "raw_value": "raw value"}
DIGITS = ((".4f", "g"), (".9f", ".12g"), (".15g", ".17g"))  # of a share with its interval, of an exact figure
SAME = "the same figure"


def figures(old: Audit, new: Audit, ids: list[str]) -> Iterator[Change]:
    """Yield what changed of the figures of the requirements that both audits examined, in the order of ``ids``."""
    before, after = ({one.requirement_id: one.measurement for one in audit.verdicts} for audit in (old, new))
    bounds, new_bounds = _bounds(old), _bounds(new)
    for name in ids:
        change = _change(name, before.get(name), after.get(name)) if name in before and name in after else None
        if change is not None:
            bound, new_bound = bounds.get(name), new_bounds.get(name)
            note = () if bound == new_bound else (f"bound {transition(bound, new_bound)}",)
            yield replace(change, details=(*change.details, *note))


def beyond(old: Figure, new: Figure) -> bool:
    """Tell whether either value lies outside the interval of the other, by more than the noise of floating point."""
    return _outside(new.value, old) or _outside(old.value, new)


def _outside(value: float, figure: Figure) -> bool:
    return not (figure.low <= value <= figure.high or same(value, figure.low) or same(value, figure.high))


def _change(name: str, old: Figure | None, new: Figure | None) -> Change | None:
    """Return how two figures differ; None if they do not."""
    if old is None or new is None:
        there = {which: one for which, one in (("old", old), ("new", new)) if one is not None}
        return _one_sided(name, there) if there else None
    counts, said = _weighed(old, new)
    changed = {key: (getattr(old, key), getattr(new, key)) for key in CIRCUMSTANCES}
    notes = [f"{CIRCUMSTANCES[key]} {transition(*pair)}" for key, pair in changed.items() if not same(*pair)]
    if said == SAME and not notes and old.n == new.n:
        return None
    return Change(name, said, counts, (*_lines({"old": old, "new": new}), *notes))


def _one_sided(name: str, there: Mapping[str, Figure]) -> Change:
    """Return that only one audit has a figure."""
    ((which, figure),) = there.items()
    return Change(name, f"{figure.metric}, measured in the {which} audit only", counts=True, details=_lines(there))


def _weighed(old: Figure, new: Figure) -> tuple[bool, str]:
    """Return whether the difference of two figures counts, and what it is."""
    if old.metric != new.metric:
        return True, f"another metric: {old.metric} -> {new.metric}"
    if same(old.value, new.value):
        return False, SAME if same([old.low, old.high], [new.low, new.high]) else "the same value, another interval"
    if not beyond(old, new):
        return False, f"{new.metric}, within their intervals"
    exact = old.low == old.high and new.low == new.high
    return True, f"{new.metric}, {'an exact figure that differs' if exact else 'beyond their intervals'}"


def _bounds(audit: Audit) -> dict[str, str]:
    stated = {one.id: (one.model_extra or {}).get("bound") for one in audit.policy.requirements}
    return {name: _bound(bound) for name, bound in stated.items() if isinstance(bound, Mapping)}


def _bound(bound: Mapping[str, Any]) -> str:
    return f"<= {bound.get('at_most')}" if bound.get("at_least") is None else f">= {bound['at_least']}"


def _lines(named: Mapping[str, Figure]) -> tuple[str, ...]:
    """Return the figures a line each, with as many digits as tell them apart."""
    different = len({(one.value, one.low, one.high) for one in named.values()})
    for digits in DIGITS:
        shown = [_shown(one, *digits) for one in named.values()]
        if len(set(shown)) == different:
            break
    return tuple(f"{name}  {text}  n={one.n}" for (name, one), text in zip(named.items(), shown, strict=True))


def _shown(figure: Figure, digits: str, exact_digits: str) -> str:
    if figure.low == figure.high == figure.value:
        return f"{figure.value:{exact_digits}}"
    return f"{figure.value:{digits}} [{figure.low:{digits}}, {figure.high:{digits}}]"
