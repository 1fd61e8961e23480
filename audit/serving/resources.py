"""Resources: what is too large or too slow is cut off, costs little, and others are answered meanwhile.

Memory and processor time are those of the server's process and its descendants, where the system tells (Linux); nothing
else is concluded from them than that a stated limit was passed. Not seen: what a request costs another machine, what
only many addresses together can use up, and leaks that take longer than some seconds to show.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from audit.requirements import ResourceRequirement
from audit.serving import client
from audit.serving.bench import Bench, Server, Tried
from audit.serving.burdens import CHUNKED, TOO_LARGE, Burden, burdens
from audit.serving.client import ADDRESS
from audit.serving.hoarding import hoarding
from audit.serving.ordinary import Waits
from audit.serving.streaming import stream
from audit.serving.usage import Usage

SLOW_SECONDS = 8.0  # after which a slow client must have been cut off
ENDLESS = 16 * 2**20  # bytes of a body without an end that are offered
PART = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
WORK_SECONDS = 2.0  # of a processor that one request may cost
BUSY = 40  # ordinary questions asked meanwhile, at most
NO_CHUNKS = (*TOO_LARGE, 411, 501)


def resources(bench: Bench, requirement: ResourceRequirement) -> Tried:
    """Send what is too large, then hold connections open while an ordinary client asks; hoard beside it.

    Raises:
        TargetError: a server did not start.
    """
    tried = Tried()
    with ThreadPoolExecutor(max_workers=1) as pool:
        beside = pool.submit(hoarding, bench)
        with bench.ordinary() as server:
            waits = Waits(bench, server, tried)
            dearest = max(_refuses(server, burden, tried, waits) for burden in burdens(bench.subject.width))
            _endless(server, tried)
            waits.ask("after an endless body")
            held = _slow(server, requirement.slow_clients, tried, waits)
            if not server.child.running:
                tried.add("crashed", "server", f"the process ended: {bench.without_paths(server.child.complaint)}")
        hoarded = beside.result()
    tried.take(hoarded)
    tried.n += hoarded.n
    tried.settings = {
        "faults_injected": tried.n,
        "slow_clients": 2 * requirement.slow_clients,
        "slowest_cut_off_seconds": round(held, 1),
        "ordinary_requests": len(waits.seconds),
        "slowest_ordinary_seconds": round(max(waits.seconds, default=0.0), 2),
        "dearest_request_processor_seconds": round(dearest, 2),
        **hoarded.settings,
    }
    return tried


def _refuses(server: Server, burden: Burden, tried: Tried, waits: Waits) -> float:
    """Send one burden; returns the processor seconds that it cost, 0 where nobody tells."""
    usage = Usage(server.child.pid)
    before, began = usage.seconds(), time.monotonic()
    answer = server.send(burden.sent, seconds=SLOW_SECONDS)
    spent = time.monotonic() - began
    tried.n += 1
    if answer is not None and answer.status not in burden.allowed:
        expected = " or ".join(map(str, burden.allowed))
        tried.add("not refused", "/predict", f"{burden.what}: status {answer.status}, expected {expected}")
    if spent >= SLOW_SECONDS:
        tried.add("not cut off", "/predict", f"{burden.what}: neither answered nor cut off within {SLOW_SECONDS:g} s")
    waits.ask(f"after {burden.what}")
    after = usage.seconds()
    work = 0.0 if before is None or after is None else after - before
    if work > WORK_SECONDS:
        message = f"{burden.what}: {work:.1f} s of a processor for {len(burden.sent)} bytes, limit {WORK_SECONDS:g} s"
        tried.add("too much work", "/predict", message)
    return work


def _endless(server: Server, tried: Tried) -> None:
    """Send chunks until the server has had enough."""
    sent = stream(server.port, CHUNKED.encode(), PART, ENDLESS, SLOW_SECONDS)
    tried.n += 1
    if sent.answer is not None and sent.answer.status not in NO_CHUNKS:
        expected = " or ".join(map(str, TOO_LARGE))
        message = f"a chunked body without an end: status {sent.answer.status} after {sent.given} bytes, not {expected}"
        tried.add("not refused", "/predict", message)
    elif sent.answer is None and not sent.cut:
        message = f"a chunked body without an end: no answer to {sent.given} bytes within {SLOW_SECONDS:g} s"
        tried.add("not cut off", "/predict", message)


def _slow(server: Server, clients: int, tried: Tried, waits: Waits) -> float:
    """Hold connections with headers and bodies that trickle, and ask meanwhile.

    Returns:
        Seconds until the last one was cut off.
    """
    head = f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\n"
    body = f"{head}Content-Type: {client.JSON}\r\nContent-Length: 5000\r\n\r\n"
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=2))
        slow = [
            pool.submit(_trickle, server.port, start.encode(), drop, clients)
            for start, drop in (
                (f"{head}X-Slow: ", b"a"),
                (body, b" "),
            )
        ]
        while not all(one.done() for one in slow) and len(waits.seconds) < BUSY + 20:
            waits.ask(f"beside {2 * clients} slow clients")
            time.sleep(0.25)
        held = [one.result() for one in slow]
    for what, seconds in zip(("header", "body"), held, strict=True):
        tried.n += clients
        left = sum(one is None for one in seconds)
        if left:
            message = f"{left} of {clients} clients with a slow {what} were still connected after {SLOW_SECONDS:g} s"
            tried.add("slow clients stay", "/predict", message)
    return max((one for seconds in held for one in seconds if one is not None), default=SLOW_SECONDS)


def _trickle(port: int, start: bytes, drop: bytes, clients: int) -> list[float | None]:
    """Open connections and send a byte on each in turn; returns when each was cut off, None for never."""
    began, ended = time.monotonic(), list[float | None]([None] * clients)
    with ExitStack() as stack:
        connections: dict[int, Any] = {}
        for index in range(clients):
            try:
                connections[index] = stack.enter_context(socket.create_connection((ADDRESS, port), timeout=1.0))
                connections[index].sendall(start)
                connections[index].setblocking(False)
            except OSError:  # not let in at all
                ended[index] = time.monotonic() - began
                connections.pop(index, None)
        while connections and time.monotonic() < began + SLOW_SECONDS:
            for index, connection in list(connections.items()):
                if not _still_open(connection, drop):
                    ended[index] = time.monotonic() - began
                    del connections[index]
            time.sleep(0.25)
    return ended


def _still_open(connection: socket.socket, drop: bytes) -> bool:
    """Send one byte more; False where the server has answered or closed."""
    try:
        connection.send(drop)
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
