"""The audit log is complete: every answered request has its line, although the server was killed under load."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from audit.errors import TargetError
from audit.requirements import LogRequirement
from audit.serving.bench import Bench, Server, Tried, entries, together

LOAD_SECONDS = 15.0  # in which so many answers must have come
TORN = b'{"seq": 1000000, "time": "2026'
NAME = "killed.jsonl"
FEW = 5  # refusals, too few to be folded: each has a line of its own, as a prediction has


@dataclass(slots=True)
class _Load:
    """Clients that ask without a pause, and what they were answered: request id -> (status, class)."""

    bench: Bench
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    cut: int = 0
    refused: int = 0
    _lock: Lock = field(default_factory=Lock)
    _stop: Event = field(default_factory=Event)

    def run(self, server: Server, clients: int, enough: int, end: Callable[[], None]) -> None:
        """Ask from several clients; when enough answers are there, end the server in the middle of it."""
        first, self.refused = len(self.answers), 0
        self._stop.clear()

        def ask(number: int) -> None:
            if number < 0:
                deadline = time.monotonic() + LOAD_SECONDS
                while len(self.answers) - first < enough and time.monotonic() < deadline:
                    time.sleep(0.005)
                end()
                self._stop.set()
            turn = number
            while not self._stop.is_set():
                self._ask(server, turn)
                turn += clients

        together([-1, *range(clients)], clients + 1, ask)

    def _ask(self, server: Server, turn: int) -> None:
        bodies = self.bench.subject.bodies
        body = bodies[turn % len(bodies)]
        if turn % 10 == 9 and self.refused < FEW:
            body, self.refused = b'{"pixels": []}', self.refused + 1
        answer = server.predict(body)
        if answer is None:
            time.sleep(0.01)
        with self._lock:
            if answer is None:
                self.cut += 1
            else:
                self.answers[answer.request_id or f"none-{turn}"] = (answer.status, answer.json.get("class"))


def complete_log(bench: Bench, requirement: LogRequirement) -> Tried:
    """Kill a server under load, leave half a line behind, start it again on the same log, and stop that one under load.

    Raises:
        TargetError: the first server did not start, or was not answering.
    """
    tried, load = Tried(), _Load(bench)
    with bench.serving(log=NAME) as server:
        load.run(server, requirement.clients, requirement.answers, server.child.kill)
        log = server.log
    killed_after = len(load.answers)
    if killed_after < requirement.answers:
        raise TargetError(f"only {killed_after} of {requirement.answers} requests were answered before the kill")
    with log.open("ab") as file:
        file.write(TORN)
    code: list[int | None] = []
    try:
        with bench.serving(log=NAME) as server:
            load.run(server, requirement.clients, requirement.answers, lambda: code.append(server.child.stop(20)))
    except TargetError as error:
        tried.add("not healed", "audit log", f"after kill -9 the server does not start on its log: {error}")
    if code and code[0] != 0:
        how = "had to be killed" if code[0] is None else f"ended with {code[0]}"
        tried.add("not drained", "server", f"asked to end under load (SIGTERM) it {how}, expected exit status 0")
    lost = _compare(tried, log, load)
    verified = bench.verify_log(log)
    if verified.code != 0:
        said = bench.without_paths(verified.tail)
        tried.add("does not verify", "audit log", f"after the restart: {said} (exit {verified.code})")
    tried.n = len(load.answers)
    tried.settings = {
        "requests_answered": len(load.answers),
        "answered_before_kill": killed_after,
        "records_lost": lost,
        "faults_injected": 3,  # kill -9, half a line, SIGTERM under load
        "connections_cut_by_the_end": load.cut,
        "log_lines": len(entries(log)),
    }
    return tried


def _compare(tried: Tried, log: Path, load: _Load) -> int:
    """Look up every answer in the log; returns how many are not there."""
    lines = entries(log)
    times = Counter(str(entry.get("request_id")) for entry in lines)
    logged = {str(entry.get("request_id")): (entry.get("status"), entry.get("class")) for entry in lines}
    lost = 0
    for request_id, said in load.answers.items():
        if times[request_id] == 0:
            lost += 1
            tried.add("record lost", "audit log", f"request {request_id}, answered with {said[0]}, has no line")
        elif times[request_id] > 1:
            tried.add("record twice", "audit log", f"request {request_id} has {times[request_id]} lines")
        elif logged[request_id] != said:
            tried.add(
                "record wrong", "audit log", f"request {request_id} was answered {said}, logged {logged[request_id]}"
            )
    return lost
