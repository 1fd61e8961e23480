"""Verdicts, the gate, and the findings behind them: what changed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from audit.compare.changes import Change
from audit.compare.reading import Audit, Complaint, GateSeen, Judged

UNDECIDED = frozenset({"INCONCLUSIVE", "NOT_RUN"})


def judged(audit: Audit) -> dict[str, Judged]:
    """Return the verdicts by requirement id."""
    return {one.requirement_id: one for one in audit.verdicts}


def verdicts(old: Audit, new: Audit, ids: list[str]) -> Iterator[Change]:
    """Yield the verdicts that changed, that are new, and that are gone; then the gate."""
    before, after = judged(old), judged(new)
    for name in ids:
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None:
            yield from _verdict(was, now)
        elif was is not None:
            why = " (left out by --only)" if name in new.policy.left_out else ""
            yield Change(name, f"not in the new audit{why}; was {was.status}", counts=True)
        elif now is not None:
            why = " (left out by --only)" if name in old.policy.left_out else ""
            yield Change(name, f"not in the old audit{why}; is {now.status}: {now.reason}", counts=True)
    states = _state(old.gate), _state(new.gate)
    if states[0] != states[1]:
        yield Change("gate", f"{' -> '.join(states)}: {new.gate.sentence}", counts=True)
    if old.partial != new.partial:
        yield Change("scope", "whole -> partial audit" if new.partial else "partial -> whole audit", counts=False)


def findings(old: Audit, new: Audit, ids: list[str]) -> Iterator[Change]:
    """Yield the findings that came or went, and of which kind there are more or fewer suppressions.

    Of the requirements that both audits examined. There may be a thousand suppressions of a kind, so they are counted.
    """
    before, after = judged(old), judged(new)
    for name in ids:
        if name in before and name in after:
            was, now = before[name].evidence, after[name].evidence
            for text in _came_and_went(was.findings, now.findings):
                yield Change(name, text, counts=True)
            for text in _more_or_fewer(was.suppressions, now.suppressions):
                yield Change(name, text, counts=False)


def _verdict(was: Judged, now: Judged) -> Iterator[Change]:
    if was.status != now.status:
        yield Change(now.requirement_id, f"{was.status} -> {now.status}: {now.reason}", counts=True)
    elif now.status in UNDECIDED and was.reason != now.reason:
        yield Change(now.requirement_id, f"still {now.status}, for another reason: {now.reason}", counts=False)


def _state(gate: GateSeen) -> str:
    return f"{'open' if gate.open else 'closed'} (exit {gate.exit_code})"


def _came_and_went(old: tuple[Complaint, ...], new: tuple[Complaint, ...]) -> Iterator[str]:
    """A finding is the same wherever in its file it lies, and however it is worded."""
    words = {(one.tool, one.rule, one.path): one.message for one in (*old, *new)}
    was, now = (Counter((one.tool, one.rule, one.path) for one in some) for some in (old, new))
    for state, some in (("new", now - was), ("gone", was - now)):
        for name, times in sorted(some.items()):
            several = f" ({times} times)" if times > 1 else ""
            yield f"{state} finding{several}: {': '.join((*name, words[name]))}"


def _more_or_fewer(old: tuple[Complaint, ...], new: tuple[Complaint, ...]) -> Iterator[str]:
    was, now = (Counter((one.tool, one.what, one.reason) for one in some) for some in (old, new))
    for name in sorted({**was, **now}):
        if was[name] != now[name]:
            yield f"suppressions {was[name]} -> {now[name]}: {': '.join(name)}"
