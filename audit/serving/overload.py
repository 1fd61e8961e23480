"""Overload: at several times the capacity every request has one answer, the right one or a refusal that says when.

A server that refuses nobody is found where the middle answer took longer than the places could explain: its requests
waited in a queue. One that has a few more places than it was told cannot be seen from outside, nor a place that is kept
too long. Whether one client leaves room for others is tried with two tokens: who asks one question at a time must not
be refused because of who asks many.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from audit.errors import TargetError
from audit.records import Probe
from audit.requirements import OverloadRequirement
from audit.serving import client
from audit.serving.bench import BUSY, IN_FLIGHT, ORDINARY, Bench, Server, Tried, entries, together

UNLOADED = 30  # questions one after the other, for the yardstick
QUEUED = 2 * IN_FLIGHT  # times the unloaded median: at most IN_FLIGHT at once slow each other down less than that
AT_ONCE_SECONDS = 1.0  # that a refusal may take in the middle
PRESSING, SHARE_SECONDS = 16, 2.5  # clients of one token that ask without a pause, and for how long
FEWEST = 20  # questions of the other, for anything to be known
FOLDED_SECONDS = 15.0  # within which refusals must be in the log, each for itself or counted in a line of several


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a client got for one question: status, class, request id, Retry-After, seconds; status 0 for nothing."""

    body: int
    status: int
    chosen: object
    request_id: str | None
    retry: str | None
    seconds: float


def overload(bench: Bench, requirement: OverloadRequirement) -> Tried:
    """Measure the unloaded server, then ask from many clients without a pause.

    Raises:
        TargetError: the server did not start, or did not answer when nothing else was asked.
    """
    tried, bodies = Tried(), bench.subject.bodies
    with bench.ordinary() as server:
        alone = [_ask(server, bodies, index % len(bodies)) for index in range(max(UNLOADED, len(bodies)))]
        right = {reply.body: reply.chosen for reply in alone if reply.status == 200}
        if len(right) < len(bodies):
            raise TargetError(f"unloaded, {len(right)} of {len(bodies)} questions were answered")
        median = statistics.median(reply.seconds for reply in alone)
        began = time.monotonic()
        replies = [
            reply
            for part in together(
                range(requirement.clients), requirement.clients, lambda one: _press(server, bodies, one, requirement)
            )
            for reply in part
        ]
        spent = time.monotonic() - began
        share = _shared(bench, tried)  # while the refusals are folded
        refused = sum(reply.status in BUSY for reply in replies)
        logged = _logged(server, refused)
    _judge(tried, replies, right, logged)
    _judge_refusals(tried, replies, median)
    accepted = [reply for reply in replies if reply.status == 200]
    tried.probes.append(
        Probe(name="the load exceeded the capacity",
              passed="no refusal" in tried.counts or (refused > 0 and bool(accepted)),
              detail=f"{len(accepted)} answered, {refused} refused of {len(replies)}")
    )  # fmt: skip
    tried.n = len(replies)
    tried.settings = {
        "requests": len(replies),
        "answered": len(accepted),
        "refused": refused,
        "dropped": sum(reply.status == 0 for reply in replies),
        "clients": requirement.clients,
        "in_flight": IN_FLIGHT,
        "clients_over_places": round(requirement.clients / IN_FLIGHT, 1),
        "seconds": round(spent, 1),
        "unloaded_median_ms": round(1000 * median, 2),
        "capacity_per_second": round(len(accepted) / spent, 1),
        "offered_over_capacity": round(len(replies) / max(1, len(accepted)), 2),
        **share,
        **_multiples([reply.seconds for reply in accepted], median),
    }
    return tried


def _press(server: Server, bodies: tuple[bytes, ...], one: int, requirement: OverloadRequirement) -> list[_Reply]:
    """Ask without a pause for the time given."""
    replies, turn, end = list[_Reply](), one, time.monotonic() + requirement.seconds
    while time.monotonic() < end:
        replies.append(_ask(server, bodies, turn % len(bodies)))
        turn += 1
        time.sleep(0 if replies[-1].status == 200 else 0.005)  # else refusals alone fill both cores
    return replies


def _shared(bench: Bench, tried: Tried) -> dict[str, int]:
    """Press with one token, and ask one question at a time with another; returns figures.

    Raises:
        TargetError: the server did not start.
    """
    tokens, bodies = bench.folder / "two-tokens.json", bench.subject.bodies
    pressing, other = [
        (("Authorization", f"Bearer {bench.make_token(tokens, name, 'predict')}"),) for name in ("pressing", "other")
    ]
    end, pressed, quiet = Event(), list[_Reply](), list[_Reply]()
    with bench.serving({**ORDINARY, "request_seconds": 30}, tokens=tokens, log="shared.jsonl") as server:

        def ask(number: int) -> None:
            deadline = time.monotonic() + SHARE_SECONDS
            while not end.is_set():
                mine, headers = (quiet, other) if number == 0 else (pressed, pressing)
                mine.append(_ask(server, bodies, len(mine) % len(bodies), headers))
                time.sleep(0.002)
                if number == 0 and time.monotonic() > deadline and len(quiet) >= FEWEST:
                    end.set()

        together(range(PRESSING + 1), PRESSING + 1, ask)
    _judge_share(tried, pressed, quiet)
    told = {"share_pressed": len(pressed), "share_refused": sum(one.status in BUSY for one in pressed)}
    return told | {"share_other": len(quiet), "share_other_refused": sum(one.status != 200 for one in quiet)}


def _judge_share(tried: Tried, pressed: Sequence[_Reply], quiet: Sequence[_Reply]) -> None:
    """Find who asks one question at a time, and is refused."""
    left_out = [one for one in quiet if one.status != 200]
    if left_out:
        tried.add(
            "no room for others",
            "/predict",
            f"one client asked from {PRESSING} connections without a pause ({len(pressed)} requests), another one "
            f"question at a time: {len(left_out)} of its {len(quiet)} were not answered ({left_out[0].status}), "
            "although no client may have more than three quarters of the places",
        )


def _judge_refusals(tried: Tried, replies: Sequence[_Reply], median: float) -> None:
    """Find a server that lets everybody wait, and refusals that come late."""
    accepted = [one.seconds for one in replies if one.status == 200]
    refusals = [one.seconds for one in replies if one.status in BUSY]
    middle = statistics.median(accepted) if accepted else 0.0
    if not refusals and middle > QUEUED * median:
        tried.add(
            "no refusal",
            "/predict",
            f"none of {len(replies)} requests was refused; half of the answers took more than {1000 * middle:.0f} ms, "
            f"{middle / median:.0f} times as long as unloaded, although {IN_FLIGHT} are predicted at once: they waited",
        )
    if refusals and statistics.median(refusals) > AT_ONCE_SECONDS:
        late = statistics.median(refusals)
        tried.add("refused late", "/predict", f"half of {len(refusals)} refusals took more than {late:.1f} s to come")


def _ask(server: Server, bodies: tuple[bytes, ...], index: int, headers: Sequence[client.Header] = ()) -> _Reply:
    began = time.monotonic()
    answer = server.predict(bodies[index], headers, seconds=3 * client.PATIENCE)
    seconds = time.monotonic() - began
    if answer is None:
        return _Reply(index, 0, None, None, None, seconds)
    retry = answer.header("Retry-After")
    return _Reply(index, answer.status, answer.json.get("class"), answer.request_id, retry, seconds)


@dataclass(frozen=True, slots=True)
class _Logged:
    """How many lines a request id has, and how many refusals all lines stand for."""

    times: Counter[str]
    refused: int


def _logged(server: Server, refused: int) -> _Logged:
    """Read the log; refusals may be folded into one line with a count, which is given its time."""
    deadline = time.monotonic() + FOLDED_SECONDS
    while True:
        lines = entries(server.log)
        counted = sum(int(line.get("count") or 1) for line in lines if line.get("status") in BUSY)
        if counted >= refused or time.monotonic() > deadline:
            return _Logged(Counter(str(line.get("request_id")) for line in lines), counted)
        time.sleep(0.5)


def _judge(tried: Tried, replies: list[_Reply], right: dict[int, object], logged: _Logged) -> None:
    given = Counter(reply.request_id for reply in replies if reply.request_id)
    for reply in replies:
        if reply.status == 0:
            tried.add("dropped", "/predict", "a connection was closed, or stayed silent, without an answer")
        elif reply.status == 200 and reply.chosen != right[reply.body]:
            tried.add("wrong answer", "/predict", f"image {reply.body}: {reply.chosen}, unloaded {right[reply.body]}")
        elif reply.status in BUSY and not _is_later(reply.retry):
            tried.add("no Retry-After", "/predict", f"{reply.status} without seconds in Retry-After: {reply.retry!r}")
        elif reply.status not in (200, *BUSY):
            tried.add("not refused cleanly", "/predict", f"status {reply.status}, expected 200, 429 or 503")
        if reply.status and reply.request_id is None:
            tried.add("no request id", "/predict", f"status {reply.status} without X-Request-Id")
    predicted = {reply.request_id for reply in replies if reply.status == 200}
    for request_id, times in given.items():
        lines = logged.times[request_id]
        if times > 1 or lines > 1 or (request_id in predicted and not lines):
            message = f"request {request_id}: {times} answers, {lines} lines in the log, expected one each"
            tried.add("not exactly once", "/predict", message)
    refused = sum(reply.status in BUSY for reply in replies)
    if logged.refused < refused:
        tried.add(
            "refusals not counted", "audit log", f"{refused} requests were refused, the log tells of {logged.refused}"
        )


def _is_later(retry: str | None) -> bool:
    """Tell whether Retry-After names a number of seconds; 0 would ask for the next request at once."""
    return retry is not None and retry.isdecimal() and int(retry) > 0


def _multiples(seconds: list[float], median: float) -> dict[str, float]:
    """Return latencies under load as multiples of the unloaded median."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {f"latency_p{part}_multiple": round(cuts[part - 1] / median, 1) for part in (50, 95, 99)}
