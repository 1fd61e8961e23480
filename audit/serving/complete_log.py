"""The audit log is complete: the record of every answer is there before the answer, whatever happens to the server.

Four servers are killed twice each under load, by the client that has just been answered; the log is read whenever an
answer begins to arrive; and one server's log is made unwritable. It cannot see what loss of power would cost, nor a
record that is only late in a way that depends on what was asked here never.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from audit.errors import TargetError
from audit.requirements import LogRequirement
from audit.serving.asking import Asking, compare
from audit.serving.bench import Bench, Server, Tried, entries, together
from audit.serving.chance import Chance
from audit.serving.unwritable import can_be_limited, exchanged, unwritable

LOGS, ROUNDS = 4, 2  # each log's server is killed so many times
WATCHED = 30  # answers of each server that come while the log is read
TORN = b'{"seq": 1000000, "time": "2026'
LEAST = 20  # answers before a kill, at least
SEED = 7
FORGED = ("X-Forwarded-For", "203.0.113.7")


@dataclass(slots=True)
class _Killed:
    """One log, its clients, and the tokens that they need, if any."""

    number: int
    asking: Asking
    chance: Chance
    tokens: bool = False
    kills: int = 0
    unwritten: int = 0
    code: list[int | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the file's name."""
        return f"killed-{self.number}.jsonl"


def complete_log(bench: Bench, requirement: LogRequirement) -> Tried:
    """Kill servers under load, leave half a line behind, start them again on the same logs, and compare.

    Raises:
        TargetError: no server started at first, or none was answering.
    """
    tried, lock = Tried(), Lock()
    logs = [_Killed(number, Asking(bench.subject.bodies, headers=(FORGED,)), Chance(SEED + number))
            for number in range(LOGS)]  # fmt: skip
    for one in logs[::2]:
        token = bench.make_token(bench.folder / f"{one.name}.tokens", "auditor", "predict")
        one.asking = Asking(bench.subject.bodies, "auditor", (("Authorization", f"Bearer {token}"), FORGED))
        one.tokens = True
    for _ in range(ROUNDS):
        together(logs, LOGS, lambda one: _kill(bench, one, requirement, tried, lock))
        if sum(len(one.asking.told) for one in logs) < requirement.answers // 2:
            raise TargetError(
                f"only {sum(len(one.asking.told) for one in logs)} requests were answered before the kill"
            )
        for one in logs:
            with _log(bench, one).open("ab") as file:
                file.write(TORN)
    answered = sum(len(one.asking.told) for one in logs)
    together((0, 1), 2, lambda which: _end(bench, logs[which], requirement, tried, lock, drained=which == 0))
    lost = sum(compare(tried, one.asking.told, entries(_log(bench, one))) for one in logs)
    verified = bench.verify_log(_log(bench, logs[0]))
    if verified.code != 0:
        said = bench.without_paths(verified.tail)
        tried.add("does not verify", "audit log", f"after the restart: {said} (exit {verified.code})")
    tried.n = sum(len(one.asking.told) for one in logs)
    tried.settings = {
        "requests_answered": tried.n,
        "answered_before_kill": answered,
        "kills": sum(one.kills for one in logs),
        "answers_watched": sum(told.tail is not None for one in logs for told in one.asking.told),
        "records_lost": lost,
        "faults_injected": sum(one.kills for one in logs) + LOGS * ROUNDS + 2 + can_be_limited(),
        "refused_without_a_log": logs[1].unwritten if can_be_limited() else "not tried: no limit of files here",
        "connections_cut_by_the_end": sum(one.asking.cut for one in logs),
        "log_lines": sum(len(entries(_log(bench, one))) for one in logs),
    }
    return tried


def _kill(bench: Bench, one: _Killed, requirement: LogRequirement, tried: Tried, lock: Lock) -> None:
    """Start a server, look at its log with every answer, and kill it under load."""
    enough = one.chance.below(1 + max(LEAST, 2 * requirement.answers // LOGS), LEAST)
    with _started(bench, one, tried, lock) as server:
        if server is not None:
            one.asking.watched(server, WATCHED, one.chance)
            one.asking.load(server, requirement.clients, enough, server.child.kill)
            one.kills += 1


def _end(bench: Bench, one: _Killed, requirement: LogRequirement, tried: Tried, lock: Lock, *, drained: bool) -> None:
    """Start a server once more; end it under load with SIGTERM, or take its log away."""
    with _started(bench, one, tried, lock) as server:
        if server is None:
            return
        if drained:
            code: list[int | None] = []
            one.asking.load(server, requirement.clients, LEAST, lambda: code.append(server.child.stop(20)))
            if code and code[0] != 0:
                how = "had to be killed" if code[0] is None else f"ended with {code[0]}"
                tried.add("not drained", "server", f"asked to end under load (SIGTERM) it {how}, expected 0")
            return
        part = Tried()
        one.unwritten = unwritable(bench, server, one.asking, part) if can_be_limited() else 0
        exchanged(bench, server, one.asking, part)
        with lock:
            tried.take(part)


@contextmanager
def _started(bench: Bench, one: _Killed, tried: Tried, lock: Lock) -> Iterator[Server | None]:
    """Give a server on a log; None where it does not start on what was left: a finding, but for the first time."""
    tokens = bench.folder / f"{one.name}.tokens" if one.tokens else None
    with ExitStack() as stack:
        try:
            server = stack.enter_context(bench.serving(tokens=tokens, log=one.name))
        except TargetError as error:
            if not one.kills:
                raise
            with lock:
                tried.add("not healed", "audit log", f"after kill -9 the server does not start on its log: {error}")
            yield None
            return
        yield server


def _log(bench: Bench, one: _Killed) -> Path:
    return bench.folder / "logs" / one.name
