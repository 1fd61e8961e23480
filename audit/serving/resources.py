"""Resources: oversize bodies, decompression bombs and slow clients are cut off, and others are answered meanwhile."""

from __future__ import annotations

import gzip
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from audit.requirements import ResourceRequirement
from audit.serving import client
from audit.serving.bench import BODY_BYTES, Bench, Server, Tried
from audit.serving.client import ADDRESS, Answer
from audit.serving.crafted import chunk, png

SLOW_SECONDS = 8.0  # after which a slow client must have been cut off
OTHERS_SECONDS = 5.0  # within which an ordinary question must be answered meanwhile
ENDLESS = 16 * 2**20  # bytes of a body without an end that are offered
BUSY = 40  # ordinary questions asked meanwhile, at most
ACCEPTABLE = (400, 408, 411, 413, 414, 415, 422, 431, 501, 503)
TOO_LARGE = (400, 413)


@dataclass(frozen=True, slots=True)
class _Burden:
    """A request that is too much, whole or only its beginning."""

    what: str
    sent: bytes
    allowed: tuple[int, ...] = ACCEPTABLE


def resources(bench: Bench, requirement: ResourceRequirement) -> Tried:
    """Send what is too large, then hold connections open while an ordinary client asks.

    Raises:
        TargetError: the server did not start.
    """
    tried, waits = Tried(), list[float]()
    with bench.ordinary() as server:
        for burden in _burdens(bench.subject.width):
            _refuses(bench, server, burden, tried, waits)
        _endless(server, tried)
        _ordinary(bench, server, tried, waits, "after an endless body")
        held = _slow(bench, server, requirement.slow_clients, tried, waits)
        if not server.child.running:
            tried.add("crashed", "server", f"the process ended: {bench.without_paths(server.child.complaint)}")
    tried.settings = {
        "faults_injected": tried.n,
        "slow_clients": 2 * requirement.slow_clients,
        "slowest_cut_off_seconds": round(held, 1),
        "ordinary_requests": len(waits),
        "slowest_ordinary_seconds": round(max(waits, default=0.0), 2),
    }
    return tried


def _refuses(bench: Bench, server: Server, burden: _Burden, tried: Tried, waits: list[float]) -> None:
    began = time.monotonic()
    answer = server.send(burden.sent, seconds=SLOW_SECONDS)
    spent = time.monotonic() - began
    tried.n += 1
    if answer is not None and answer.status not in burden.allowed:
        expected = " or ".join(map(str, burden.allowed))
        tried.add("not refused", "/predict", f"{burden.what}: status {answer.status}, expected {expected}")
    if spent >= SLOW_SECONDS:
        tried.add("not cut off", "/predict", f"{burden.what}: neither answered nor cut off within {SLOW_SECONDS:g} s")
    _ordinary(bench, server, tried, waits, f"after {burden.what}")


def _ordinary(bench: Bench, server: Server, tried: Tried, waits: list[float], when: str) -> Answer | None:
    """Ask an ordinary question, which must be answered in time."""
    began = time.monotonic()
    answer = server.predict(bench.sample, seconds=OTHERS_SECONDS)
    waits.append(time.monotonic() - began)
    if answer is None or answer.status != 200:
        said = "no answer" if answer is None else f"status {answer.status}"
        tried.add("others wait", "/predict", f"{when} an ordinary question: {said} within {OTHERS_SECONDS:g} s")
    return answer


def _burdens(width: int) -> Iterator[_Burden]:
    """Yield oversize requests and bombs."""

    def post(body: bytes, kind: str = client.JSON, *headers: client.Header) -> bytes:
        return client.request("POST", "/predict", body, headers, kind)

    announced = f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: {client.JSON}\r\nContent-Length: "
    pixels = b'{"pixels": [' + b"0," * (width - 1) + b"0]}"
    yield _Burden("a body of ten gigabytes, announced", announced.encode() + b"10000000000\r\n\r\n" + pixels, TOO_LARGE)
    yield _Burden("a body one byte too large", post(pixels + b" " * (BODY_BYTES + 1 - len(pixels))), TOO_LARGE)
    yield _Burden("a body of four megabytes", post(pixels + b" " * 2**22), TOO_LARGE)
    yield _Burden("an image of four megabytes", post(b"\x89PNG\r\n\x1a\n" + b"\x00" * 2**22, "image/png"), TOO_LARGE)
    yield _Burden(
        "a form of four megabytes", post(b"--b\r\n" + b"x" * 2**22, "multipart/form-data; boundary=b"), TOO_LARGE
    )
    bomb = gzip.compress(pixels + b" " * 2**25, 9)
    yield _Burden("a gzip bomb of 32 megabytes", post(bomb, client.JSON, ("Content-Encoding", "gzip")))
    yield _Burden("a deflate bomb", post(zlib.compress(b"0" * 2**25, 9), client.JSON, ("Content-Encoding", "deflate")))
    side = 6000
    yield _Burden("a PNG of 36 megapixels", post(png(side, side, b"\x00" * (side * (side + 1))), "image/png"))
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"x" * 2**25, 9))
    yield _Burden("a PNG with 32 megabytes of text", post(png(28, 28, b"\x00" * 10, text), "image/png"))
    frame = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65_500, 65_500, 1) + b"\x01\x11\x00"
    yield _Burden(
        "a JPEG that claims four gigapixels", post(frame + b"\xff\xda\x00\x08\x01\x01\x00\x00?\x00", "image/jpeg")
    )
    yield _Burden("JSON nested ten thousand deep", post(b'{"pixels":' + b"[" * 10_000 + b"]" * 10_000 + b"}"))
    yield _Burden("a number of fifty thousand digits", post(b'{"pixels": [' + b"9" * 50_000 + b"]}"))
    yield _Burden("thirty thousand numbers", post(b'{"pixels": [' + b"0," * 30_000 + b"0]}"))
    yield _Burden("a header of a megabyte", client.request("GET", "/healthz", headers=[("X-Long", "x" * 2**20)]))
    yield _Burden("a path of a megabyte", client.request("GET", "/" + "x" * 2**20))


def _endless(server: Server, tried: Tried) -> None:
    """Send chunks until the server has had enough."""
    head = f"POST /predict HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: {client.JSON}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    part, given, answer = b"8000\r\n" + b" " * 0x8000 + b"\r\n", 0, None
    began = time.monotonic()
    tried.n += 1
    with suppress(OSError), socket.create_connection((ADDRESS, server.port), timeout=SLOW_SECONDS) as connection:
        try:
            connection.sendall(head.encode())
            while given < ENDLESS and time.monotonic() < began + SLOW_SECONDS:
                connection.sendall(part)
                given += 0x8000
        except OSError:  # cut off, which is what is expected
            return
        connection.settimeout(SLOW_SECONDS)
        answer = client.read_answer(connection)
    if answer is None and time.monotonic() > began + SLOW_SECONDS:
        tried.add("not cut off", "/predict", f"a chunked body without an end: {given} bytes were taken")
    elif answer is not None and answer.status not in ACCEPTABLE:
        tried.add("not refused", "/predict", f"a chunked body without an end: status {answer.status}")


def _slow(bench: Bench, server: Server, clients: int, tried: Tried, waits: list[float]) -> float:
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
        while not all(one.done() for one in slow) and len(waits) < BUSY + 20:
            _ordinary(bench, server, tried, waits, f"beside {2 * clients} slow clients")
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
