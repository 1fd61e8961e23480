"""Clients that ask without a pause and keep what they were told, and what a log must then say of it."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit.serving.bench import Server, Tried, together
from audit.serving.chance import Chance
from audit.serving.client import ADDRESS, PATIENCE, Answer, Header, read_answer, request

LOAD_SECONDS = 15.0  # in which so many answers must have come
FEW = 5  # refusals, too few to be folded: each has a line of its own, as a prediction has
CLOCKS = timedelta(seconds=1)  # that a record's time may lie before the question or after the answer
ROUNDING = 1e-3  # of a confidence
TAIL = 2**16  # bytes of the log that hold the newest lines


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: what was asked and by whom, what was said, when, and whether its record was there when it came."""

    request_id: str
    client: str
    body: bytes
    answer: Answer
    since: datetime
    until: datetime
    tail: bytes | None = None


@dataclass(slots=True)
class Asking:
    """Clients of one log. ``client`` is the name that the log should know them by."""

    bodies: Sequence[bytes]
    client: str = ADDRESS
    headers: tuple[Header, ...] = ()
    told: list[Told] = field(default_factory=list)
    cut: int = 0
    refused: int = 0

    def one(self, server: Server, body: bytes, *, look: bool = False) -> Told | None:
        """Ask once; with ``look`` read the end of the log as soon as the answer begins to arrive."""
        since, tail, sent = _now(), None, request("POST", "/predict", body, self.headers)
        try:
            with socket.create_connection((ADDRESS, server.port), timeout=PATIENCE) as connection:
                connection.sendall(sent)
                if look:
                    connection.recv(1, socket.MSG_PEEK)
                    tail = end_of(server.log)
                answer = read_answer(connection, "POST")
        except OSError:
            answer = None
        if answer is None:
            self.cut += 1
            return None
        told = Told(answer.request_id or "none", self.client, body, answer, since, _now(), tail)
        self.told.append(told)
        return told

    def watched(self, server: Server, times: int, chance: Chance) -> None:
        """Ask one question after the other, at irregular times, and look at the log with each answer."""
        for turn in range(times):
            self.one(server, self.bodies[turn % len(self.bodies)], look=True)
            time.sleep(chance.among((0, 0, chance.between(0, 0.02))))

    def load(self, server: Server, clients: int, enough: int, end: Callable[[], object]) -> None:
        """Ask from several clients; whoever gets the last answer of so many ends the server at once."""
        first, stop, deadline = len(self.told), threading.Event(), time.monotonic() + LOAD_SECONDS
        self.refused = 0

        def ask(number: int) -> None:
            turn = number
            while not stop.is_set():
                body = self.bodies[turn % len(self.bodies)]
                if turn % 10 == 9 and self.refused < FEW:
                    body, self.refused = b'{"pixels": []}', self.refused + 1
                told, turn = self.one(server, body), turn + clients
                if len(self.told) - first >= enough or time.monotonic() > deadline:
                    if not stop.is_set():
                        stop.set()
                        end()
                elif told is None:
                    time.sleep(0.01)

        together(range(clients), clients, ask)


def _now() -> datetime:
    return datetime.now(UTC)


def end_of(log: Path) -> bytes:
    """Return the newest lines of a log."""
    file = os.open(log, os.O_RDONLY)
    try:
        return os.pread(file, TAIL, max(0, os.fstat(file).st_size - TAIL))
    finally:
        os.close(file)


def compare(tried: Tried, told: Sequence[Told], lines: Sequence[dict[str, Any]]) -> int:
    """Look up every answer in the log, and hold each key of its line to it; returns how many are not there."""
    found, lost = defaultdict[str, list[dict[str, Any]]](list), 0
    for line in lines:
        found[str(line.get("request_id"))].append(line)
    for one in told:
        there, said = found[one.request_id], f"request {one.request_id}, answered with {one.answer.status}"
        if one.tail is not None and one.request_id.encode() not in one.tail:
            tried.add("record late", "audit log", f"{said}, had no line yet when its answer began to arrive")
        if not there:
            lost += 1
            tried.add("record lost", "audit log", f"{said}, has no line")
        elif len(there) > 1:
            tried.add("record twice", "audit log", f"{said}, has {len(there)} lines")
        elif wrong := differences(one, there[0]):
            tried.add("record wrong", "audit log", f"{said}: {'; '.join(wrong)}")
    return lost


def differences(one: Told, line: dict[str, Any]) -> list[str]:
    """Say which keys of a line do not fit the answer."""
    said, fine = one.answer.json, one.answer.status == 200
    shares = said.get("probabilities") if fine else None
    expected: dict[str, Any] = {
        "status": one.answer.status,
        "class": said.get("class") if fine else None,
        "client": one.client,
        "count": 1,
        "image": 0 if fine else None,
    }
    if fine:
        expected["model_digest"] = said.get("model_digest")
    digest = hashlib.sha256(one.body).hexdigest()
    if fine or line.get("input_sha256") is not None:  # null where the body was not read
        expected["input_sha256"] = digest
    wrong = [f"{key} is {line.get(key)!r}, expected {value!r}" for key, value in expected.items()
             if line.get(key) != value]  # fmt: skip
    if isinstance(shares, list) and shares:
        sure = line.get("confidence")
        if not isinstance(sure, int | float) or abs(sure - max(shares)) > ROUNDING:
            wrong.append(f"confidence is {sure!r}, expected {max(shares)}")
    elif not fine and line.get("confidence") is not None:
        wrong.append(f"confidence is {line['confidence']!r}, expected null")
    when = moment(line.get("time"))
    if when is None or not one.since - CLOCKS <= when <= one.until + CLOCKS:
        wrong.append(f"time is {line.get('time')!r}, expected {one.since.isoformat()} to {one.until.isoformat()}")
    return wrong


def moment(text: Any) -> datetime | None:
    """Read a time of RFC 3339 in UTC; None for anything else."""
    if not isinstance(text, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", text):
        return None
    return datetime.fromisoformat(text)
