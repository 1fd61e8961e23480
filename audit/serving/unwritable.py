"""No record, no answer: the log of a running server is made unwritable, or exchanged, and it is asked all the same."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from audit.serving.asking import Asking, Told
from audit.serving.bench import Bench, Server, Tried, entries, until

ASKED = 12  # questions while nothing can be written
AGAIN_SECONDS = 12.0  # within which it must answer again, or notice


def can_be_limited() -> bool:
    """Tell whether this system can limit the files of another process."""
    return sys.platform == "linux" and hasattr(resource, "prlimit")


def unwritable(bench: Bench, server: Server, asking: Asking, tried: Tried) -> int:
    """Allow the server no longer files than its log is, ask, and allow them again; returns how many were refused."""
    with _full(server):
        told = [asking.one(server, body) for body in bench.subject.bodies[:ASKED]]
        ready = server.get("/readyz")
    refused = [one for one in told if one is not None and one.answer.status == 503]
    for one in told:
        if one is not None and one.answer.status == 200:
            _unrecorded(tried, server, one, "its log could not grow")
    if ready is not None and ready.status == 200 and refused:
        tried.add("ready without a log", "/readyz", f"200, while {len(refused)} of {ASKED} questions were refused")
    asking.told = [
        one for one in asking.told if one not in told
    ]  # what cannot be written may be lost, says the contract
    if not _answers_again(bench, server):
        tried.add("does not recover", "/predict", f"still refused {AGAIN_SECONDS:.0f} s after the log could grow again")
    return len(refused)


def exchanged(bench: Bench, server: Server, asking: Asking, tried: Tried) -> None:
    """Move the log away and put a copy of it in its place: what is appended to the old one is in no log."""
    aside = server.log.with_name("moved-away")
    content = server.log.read_bytes()
    server.log.rename(aside)
    server.log.write_bytes(content)
    deadline, told = time.monotonic() + AGAIN_SECONDS, list[Told | None]()
    while time.monotonic() < deadline:
        told.append(asking.one(server, bench.subject.bodies[len(told) % ASKED]))
        if (last := told[-1]) is not None and last.answer.status == 503:
            break
        time.sleep(0.2)
    else:
        for one in told:
            if one is not None and one.answer.status == 200:
                _unrecorded(tried, server, one, "another file lay in the place of its log")
    asking.told = [one for one in asking.told if one not in told]


def _unrecorded(tried: Tried, server: Server, one: Told, how: str) -> None:
    """Find an answer without a line in the log."""
    if one.request_id not in {str(line.get("request_id")) for line in entries(server.log)}:
        said = f"request {one.request_id} was answered with class {one.answer.json.get('class')!r}"
        tried.add("answer without a record", "/predict", f"{said} while {how}, and has no line")


@contextmanager
def _full(server: Server) -> Iterator[None]:
    """Make the disk full for one process: no file may become longer than its log is."""
    before = resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE, (server.log.stat().st_size, before[1]))
    try:
        yield
    finally:
        if server.child.running:
            resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE, before)


def _answers_again(bench: Bench, server: Server) -> bool:
    answer = until(200, AGAIN_SECONDS, lambda: server.predict(bench.sample))
    return answer is not None and answer.status == 200
