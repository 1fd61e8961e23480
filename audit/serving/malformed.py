"""Malformed input: no request crashes the server, is taken for a good one, or is told its internals.

Requests go in batches, and after each the server must still be the same process and answer an ordinary question: so a
finding names the few requests that it can be due to. Not seen: what only shows after many hours, a fault that takes a
request which was not made, and a process behind the started one that dies and is replaced without anybody losing an
answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from audit.errors import TargetError
from audit.requirements import MalformedRequirement
from audit.serving.bench import Bench, Server, Tried, together
from audit.serving.client import Answer
from audit.serving.crafted import Crafted, crafted
from audit.serving.internals import leaks
from audit.serving.pictures import Batch, batches

THREADS = 4
LEAST = 0.95  # of the requests must really have been looked at
BATCH = 100
RECOVERY_SECONDS = 1.0  # before the ordinary question is asked once more
NAMED = 4  # requests that a finding names


def malformed(bench: Bench, requirement: MalformedRequirement) -> Tried:
    """Send every generated request and picture; ask an ordinary question after each batch.

    Raises:
        TargetError: the server did not start, or was too busy to look at the requests.
    """
    tried, seen, whole = Tried(), Counter[str](), dict[str, str]()
    sent = planned = 0
    with bench.ordinary() as server:
        for batch in _batches(requirement, bench.subject.width):
            planned += len(batch.requests)
            if tried.counts.keys() & {"crashed", "does not answer"}:
                continue  # whatever comes now says nothing about what is sent
            answers = together(
                batch.requests, THREADS, lambda one: server.patiently(one.sent, half_close=not one.whole)
            )
            sent += len(answers)
            for one, answer in zip(batch.requests, answers, strict=True):
                seen["closed" if answer is None else str(answer.status)] += 1
                _judge(tried, one, answer)
            whole |= _taken(batch, answers)
            _afterwards(tried, bench, server, batch, answers)
    busy = seen["503"] + seen["429"]
    tried.n = sent - busy
    if not tried.findings and tried.n < LEAST * planned:
        raise TargetError(f"the server was too busy for {busy} of {planned} requests")
    tried.settings = {
        "requests": planned,
        "seed": requirement.seed,
        "answers": dict(sorted(seen.items())),
        "kinds_of_pictures": len(whole),
        "kinds_of_pictures_not_taken": sorted(kind for kind, status in whole.items() if status != "200"),
    }
    return tried


def _batches(requirement: MalformedRequirement, width: int) -> Iterator[Batch]:
    requests = crafted(requirement.requests, width, requirement.seed)
    for begin in range(0, len(requests), BATCH):
        yield Batch("requests of every family", tuple(requests[begin : begin + BATCH]))
    yield from batches(requirement.seed)


def _taken(batch: Batch, answers: Sequence[Answer | None]) -> dict[str, str]:
    """Return how the first picture of each kind was answered, which is as it should be."""
    for one, answer in zip(batch.requests, answers, strict=True):
        if one.family == batch.kind:
            return {batch.kind: "closed" if answer is None else str(answer.status)}
    return {}


def _afterwards(tried: Tried, bench: Bench, server: Server, batch: Batch, answers: Sequence[Answer | None]) -> None:
    """Look whether the server is still there."""
    if server.child.running and _answers_again(bench, server):
        return
    lost = [one.family for one, answer in zip(batch.requests, answers, strict=True) if answer is None and one.whole]
    about = "; ".join(lost[:NAMED]) or batch.kind
    if server.child.running:  # looked at again, since its connections end before it does
        tried.add("does not answer", "/predict", f"an ordinary question is not answered after: {about}")
        return
    message = f"the process ended when it was asked about: {about}: {bench.without_paths(server.child.complaint)}"
    tried.add("crashed", "/predict", message)


def _answers_again(bench: Bench, server: Server) -> bool:
    if server.answers(bench.sample):
        return True
    time.sleep(RECOVERY_SECONDS)
    return server.answers(bench.sample)


def _judge(tried: Tried, one: Crafted, answer: Answer | None) -> None:
    line = one.sent[:60].split(b"\r\n")[0].decode("ascii", errors="replace")
    if answer is None:
        if one.whole:
            tried.add("no answer", one.family, f"{line}: the connection was closed, or silent, without an answer")
        return
    if answer.status >= 500 and answer.status != 503:
        tried.add("server error", one.family, f"{line}: status {answer.status}")
    if one.invalid and answer.status < 400:
        tried.add("accepted", one.family, f"{line}: status {answer.status} for an invalid body")
    for kind, text in leaks(answer, one.sent)[:1]:
        tried.add("internals", one.family, f"{line}: status {answer.status} tells a {kind}: {text[:80]!r}")
