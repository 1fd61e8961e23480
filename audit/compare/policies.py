"""Policies and waivers: what changed, and which way a bound went. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit.compare.changes import Change, differences, transition
from audit.compare.reading import Audit

# which way is looser: downwards or upwards
LOOSER = {"bound.at_least": -1, "bound.at_most": 1, "bound.confidence": -1, "threat_model.eps": -1}


def stated(audit: Audit) -> dict[str, dict[str, Any]]:
    """Return the requirements as the policy states them, by id."""
    return {one.id: one.model_dump() for one in audit.policy.requirements}


def policies(old: Audit, new: Audit, ids: list[str]) -> Iterator[Change]:
    """Yield the definitions that changed, then what is said of the policy and the data, then the waivers."""
    before, after = stated(old), stated(new)
    for name in ids:
        if name in before and name in after:
            for path, was, now in differences(before[name], after[name]):
                yield Change(name, f"{path}: {transition(was, now)}{direction(path, was, now)}", counts=True)
        elif name in after and name not in old.policy.left_out:
            yield Change(name, f"requirement added: {after[name].get('title', '')}", counts=True)
        elif name in before and name not in new.policy.left_out:
            yield Change(name, f"requirement removed: {before[name].get('title', '')}", counts=True)
    for path, was, now in differences(old.policy.model_extra, new.policy.model_extra):
        if path != "chosen":  # repeats the path, with the reason
            yield Change(path, transition(was, now), counts=path == "data_digest")
    yield from _waivers(old, new)


def direction(path: str, old: Any, new: Any) -> str:
    """Say whether a requirement became easier or harder to meet; empty where that is not plain."""
    if old is None or new is None:
        return ""
    if path == "if_not_run":
        looser = new == "report"
    elif path in LOOSER and isinstance(old, float | int) and isinstance(new, float | int):
        looser = (new - old) * LOOSER[path] > 0
    else:
        return ""
    return " (LOOSENED)" if looser else " (TIGHTENED)"


def _waivers(old: Audit, new: Audit) -> Iterator[Change]:
    before, after = ({one.id: one.model_dump() for one in audit.waivers} for audit in (old, new))
    for name in dict.fromkeys((*after, *before)):
        if name in before and name in after:
            for path, was, now in differences(before[name], after[name]):
                yield Change(name, f"waiver, {path}: {transition(was, now)}", counts=True)
        else:
            state, waiver = ("added", after[name]) if name in after else ("removed", before[name])
            words = f"{waiver.get('reason')} ({waiver.get('owner')}, until {waiver.get('expires')})"
            yield Change(name, f"waiver {state}: {words}", counts=True)
