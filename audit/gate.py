"""(Verdicts, waivers) -> Gate: whether the merge may pass, and with which exit code. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from audit.records import Gate, IfNotRun, Status, Verdict


class ExitCode(IntEnum):
    """What the process returns; 2 and 4 are pytest's own."""

    OPEN = 0
    NOT_MET = 1
    INTERRUPTED = 2
    USAGE = 4
    INCOMPLETE = 10


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What, besides the verdicts, decides the gate or must be said with it.

    The policy leaves the requirements ``dropped`` of the one that it ``extends`` out, and states ``replaced`` anew.
    """

    waived: frozenset[str] = frozenset()
    crashes: tuple[str, ...] = ()
    partial: bool = False
    allow_incomplete: bool = False
    extends: str = ""
    dropped: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def decide(verdicts: Sequence[Verdict], if_not_run: Mapping[str, IfNotRun], around: Circumstances) -> Gate:
    """Return the gate. Silence is never a pass: without one requirement met, it stays closed.

    Args:
        verdicts: one for every requirement that was to be examined.
        if_not_run: what a NOT_RUN does, by requirement id.
        around: waivers, crashes of exhibits, ``--only``, ``--allow-incomplete``, and what the policy extends.
    """
    not_met = _ids(verdicts, Status.NOT_MET)
    refused = [name for name in not_met if name not in around.waived]
    stale = [name for name in _ids(verdicts, Status.MET) if name in around.waived]
    scope = "PARTIAL audit. " if around.partial else ""
    counts = f"{_counts(verdicts)}{_of_what_it_extends(around)}"
    if refused or stale:
        reasons = ([f"not met: {', '.join(refused)}"] if refused else []) + (
            [f"met again, so delete the waiver: {', '.join(stale)}"] if stale else []
        )
        return _closed(ExitCode.NOT_MET, f"{scope}The gate is CLOSED: {'; '.join(reasons)}. {counts}")
    missing = [*_ids(verdicts, Status.INCONCLUSIVE), *_blocking(verdicts, if_not_run), *around.crashes]
    if not _ids(verdicts, Status.MET):
        return _closed(ExitCode.INCOMPLETE, f"{scope}The gate is CLOSED: no requirement was shown to be met. {counts}")
    if missing and not around.allow_incomplete:
        return _closed(ExitCode.INCOMPLETE, f"{scope}The gate is CLOSED: undecided: {', '.join(missing)}. {counts}")
    allowed = f"INCOMPLETE, allowed by --allow-incomplete: {', '.join(missing)}. " if missing else ""
    waived = f" Waived: {', '.join(not_met)}." if not_met else ""
    return Gate(open=True, exit_code=ExitCode.OPEN, sentence=f"{allowed}{scope}The gate is OPEN.{waived} {counts}")


def _closed(code: ExitCode, sentence: str) -> Gate:
    return Gate(open=False, exit_code=code, sentence=sentence)


def _ids(verdicts: Sequence[Verdict], status: Status) -> list[str]:
    return [verdict.requirement_id for verdict in verdicts if verdict.status is status]


def _blocking(verdicts: Sequence[Verdict], if_not_run: Mapping[str, IfNotRun]) -> list[str]:
    return [name for name in _ids(verdicts, Status.NOT_RUN) if if_not_run[name] is IfNotRun.BLOCK]


def _counts(verdicts: Sequence[Verdict]) -> str:
    met, not_met = len(_ids(verdicts, Status.MET)), len(_ids(verdicts, Status.NOT_MET))
    undecided, not_run = len(_ids(verdicts, Status.INCONCLUSIVE)), len(_ids(verdicts, Status.NOT_RUN))
    return (
        f"Of {len(verdicts)} requirements {met} met, {not_met} not met, "
        f"{undecided} inconclusive, {not_run} not examined."
    )


def _of_what_it_extends(around: Circumstances) -> str:
    """Say what the policy drops and replaces of the one that it extends; nothing where it only adds."""
    dropped, replaced = ", ".join(around.dropped), ", ".join(around.replaced)
    said = [f"drops {len(around.dropped)} requirements ({dropped})"] if dropped else []
    said += [f"replaces {replaced}"] if replaced else []
    return f" Of {around.extends}, which it extends, the policy {' and '.join(said)}." if said else ""
