"""Malformed input: no request crashes the server, is taken for a good one, or is told its internals."""

from __future__ import annotations

from collections import Counter

from audit.errors import TargetError
from audit.requirements import MalformedRequirement
from audit.serving.bench import Bench, Tried, together
from audit.serving.client import Answer
from audit.serving.crafted import Crafted, crafted
from audit.serving.internals import leaks

THREADS = 4
LEAST = 0.95  # of the requests must really have been looked at


def malformed(bench: Bench, requirement: MalformedRequirement) -> Tried:
    """Send every generated request, and ask an ordinary question afterwards.

    Raises:
        TargetError: the server did not start, or was too busy to look at the requests.
    """
    tried, requests = Tried(), crafted(requirement.requests, bench.subject.width, requirement.seed)
    with bench.ordinary() as server:
        answers = together(requests, THREADS, lambda one: server.patiently(one.sent, half_close=not one.whole))
        seen: Counter[str] = Counter()
        for one, answer in zip(requests, answers, strict=True):
            seen["closed" if answer is None else str(answer.status)] += 1
            _judge(tried, one, answer)
        busy = seen["503"] + seen["429"]
        tried.n = len(requests) - busy
        if not server.answers(bench.sample):
            tried.add("does not answer", "/predict", "after the malformed requests an ordinary one is not answered")
        if not server.child.running:
            tried.add("crashed", "/predict", f"the process ended: {bench.without_paths(server.child.complaint)}")
    if not tried.findings and tried.n < LEAST * len(requests):
        raise TargetError(f"the server was too busy for {busy} of {len(requests)} requests")
    tried.settings = {"requests": len(requests), "seed": requirement.seed, "answers": dict(sorted(seen.items()))}
    return tried


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
