"""What strangers can make a server keep: connections, memory, and lines in its log.

The server is one of its own, and its memory is measured from a moment at which nothing is asked. Not seen: clients that
read just fast enough, since what the kernel buffers for them hides it; and a hoard that only many addresses can make.
"""

from __future__ import annotations

import select
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from audit.serving import client
from audit.serving.bench import IN_FLIGHT, LIMIT_SECONDS, Bench, Server, Tried, together
from audit.serving.burdens import CHUNKED
from audit.serving.client import ADDRESS
from audit.serving.crafted import SIGNATURE, chunk, png
from audit.serving.ordinary import Waits
from audit.serving.streaming import stream
from audit.serving.usage import Usage

SETTINGS = {
    "body_bytes": 2**20,
    "in_flight": IN_FLIGHT,
    "header_seconds": LIMIT_SECONDS,
    "request_seconds": LIMIT_SECONDS,
    "write_seconds": LIMIT_SECONDS,
}
UNREAD = 110  # connections that read nothing: more than a server takes at once (docs/serving.md)
AHEAD = (12, 400)  # requests that they send ahead, in turn
UNREAD_SECONDS = 7.0  # after which they must have been given up
PAGES = ("/openapi.json", "/openapi", "/", "/metrics", "/healthz")
MORE_MEMORY = 128 * 2**20  # bytes that any attack may add to the memory at rest
SIDE = 9_400  # of a picture: just below the size that decoders of pictures refuse by themselves
BOMBS, STREAMS, STREAMED = 3, 12, 16 * 2**20
TINY = b"1\r\n \r\n" * 5_000
TINY_STREAMS, TINY_STREAMED, TINY_WORK = 4, 3 * 2**20, 2.0  # processor seconds for all of them
FIRST, FEWEST = 60, 400  # refusals that may have lines of their own, and refusals in all
FLOOD_SECONDS, FLOODING = 5.0, 4  # clients
A_DAY, A_DAYS_LOG = 86_400, 100e6  # bytes that one address may add to the log in a day
LEAKED = 32 * 2**20  # bytes of memory that a flood may add after its first refusals
LARGE = 3 * 2**18


@dataclass(slots=True)
class _Scene:
    """The server under attack, and what it used at rest."""

    server: Server
    usage: Usage
    tried: Tried
    waits: Waits
    rest: int | None

    def remembers(self, what: str) -> int | None:
        """Find fault with what was added to memory since the last look; returns it in bytes."""
        peak = self.usage.peak()
        if peak is None or self.rest is None:
            return None
        grown = peak - self.rest
        if grown > MORE_MEMORY:
            message = f"{what}: {_mb(grown)} beyond the {_mb(self.rest)} at rest, limit {_mb(MORE_MEMORY)}"
            self.tried.add("too much memory", "server", message)
        self.usage.forget_peak()
        return grown


def hoarding(bench: Bench) -> Tried:
    """Send bombs and bodies without an end, read nothing, and flood the log.

    Raises:
        TargetError: the server did not start.
    """
    tried = Tried()
    with bench.serving(SETTINGS, log="hoarding.jsonl") as server:
        usage, waits = Usage(server.child.pid), Waits(bench, server, tried)
        for _ in range(3):
            waits.ask("before everything else")
            server.predict_picture(png(28, 28, (b"\x00" + b"\x00" * 14 + b"\xff" * 14) * 28))
        usage.forget_peak()
        scene = _Scene(server, usage, tried, waits, usage.resident())
        grown = {
            "pictures": _pictures(scene),
            "bodies": _bodies(scene),
            "chunks": _tiny_chunks(scene),
            "unread answers": _unread(scene),
        }
        flood = _flood(scene)
        if not server.child.running:
            tried.add("crashed", "server", f"the process ended: {bench.without_paths(server.child.complaint)}")
    tried.settings |= {
        "memory_at_rest": "not told" if scene.rest is None else _mb(scene.rest),
        "memory_added": {what: "not told" if more is None else _mb(more) for what, more in grown.items()},
        **flood,
    }
    return tried


def _pictures(scene: _Scene) -> int | None:
    """Send pictures of a hundred kilobytes and nearly ninety megapixels at once."""
    packed = zlib.compressobj(9)
    rows = [packed.compress(bytes((SIDE + 7) // 8 + 1)) for _ in range(SIDE)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0))
    bomb = SIGNATURE + header + chunk(b"IDAT", b"".join(rows) + packed.flush()) + chunk(b"IEND", b"")
    scene.tried.n += BOMBS
    together(range(BOMBS), BOMBS, lambda _: scene.server.predict_picture(bomb))
    scene.waits.ask("after pictures of 88 megapixels")
    return scene.remembers(f"{BOMBS} PNGs of 88 megapixels, {len(bomb)} bytes each")


def _bodies(scene: _Scene) -> int | None:
    """Send chunked bodies without an end, several at once."""
    part = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    _streams(scene, STREAMS, part, STREAMED)
    return scene.remembers(f"{STREAMS} chunked bodies without an end")


def _tiny_chunks(scene: _Scene) -> int | None:
    """Send chunks of one byte, which cost as much as large ones."""
    before = scene.usage.seconds()
    given = _streams(scene, TINY_STREAMS, TINY, TINY_STREAMED)
    after = scene.usage.seconds()
    work = None if before is None or after is None else after - before
    scene.tried.settings["processor_seconds_of_small_chunks"] = "not told" if work is None else round(work, 2)
    if work is not None and work > TINY_WORK:
        message = f"{given // 6} chunks of one byte: {work:.1f} s of a processor, limit {TINY_WORK:g} s"
        scene.tried.add("too much work", "/predict", message)
    return scene.remembers("chunks of one byte")


def _streams(scene: _Scene, times: int, part: bytes, most: int) -> int:
    """Stream several bodies at once; returns how many bytes were taken."""
    scene.tried.n += times
    port, seconds = scene.server.port, LIMIT_SECONDS + 1.0
    sent = together(range(times), times, lambda _: stream(port, CHUNKED.encode(), part, most, seconds))
    scene.waits.ask(f"after {times} chunked bodies without an end")
    return sum(one.given for one in sent)


def _unread(scene: _Scene) -> int | None:
    """Ask for much and read nothing; the connections must end, and others be answered meanwhile."""
    page = max(PAGES, key=lambda path: _length(scene.server, path))
    asked = f"GET {page} HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n".encode()
    scene.tried.n += UNREAD
    with ExitStack() as stack:
        held = [_asking(stack, scene.server.port, asked * AHEAD[index % len(AHEAD)]) for index in range(UNREAD)]
        end = time.monotonic() + UNREAD_SECONDS
        while time.monotonic() < end:
            scene.waits.ask(f"beside {UNREAD} connections that read no answers")
            time.sleep(0.25)
        left = _open(held)
    if left:
        message = f"{left} of {UNREAD} connections whose answers ({page}) are not read were open after "
        scene.tried.add("unread answers stay", page, f"{message}{UNREAD_SECONDS:g} s, limit {LIMIT_SECONDS} s")
    return scene.remembers(f"{UNREAD} connections that read no answers")


def _length(server: Server, path: str) -> int:
    answer = server.get(path)
    return len(answer.body) if answer is not None and answer.status == 200 else 0


def _asking(stack: ExitStack, port: int, asked: bytes) -> socket.socket:
    """Return a connection on which much is asked, and which has little room for answers."""
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(1.0)
    with suppress(OSError):  # not let in, or cut off already
        connection.connect((ADDRESS, port))
        connection.setblocking(False)
        connection.send(asked)
    connection.setblocking(False)
    return connection


def _open(connections: Sequence[socket.socket]) -> int:
    """Return how many connections the server still holds: to one byte more, one that it gave up is reset."""
    for connection in connections:
        with suppress(OSError):
            connection.send(b"\r\n")
    time.sleep(1.0)
    look = select.poll()
    for connection in connections:
        look.register(connection, 0)  # errors and ends are told unasked
    return len(connections) - len(look.poll(0))


def _flood(scene: _Scene) -> dict[str, object]:
    """Be refused without a pause, and see how log and memory grow; returns figures."""
    sent, done = _refusable(), list[int]()

    def flood(seconds: float, least: int) -> None:
        """Be refused for so long, and so often; a busy machine is given three times as long for that."""
        begin = time.monotonic()

        def press(_: int) -> None:
            while (spent := time.monotonic() - begin) < 3 * FLOOD_SECONDS and (spent < seconds or len(done) < least):
                done.append(1)
                scene.server.send(sent[len(done) % len(sent)])

        together(range(FLOODING), FLOODING, press)

    empty = _size(scene.server.log)
    flood(0.0, FIRST)
    first, resident, began = _size(scene.server.log), scene.usage.resident(), time.monotonic()
    flood(FLOOD_SECONDS, FEWEST)
    spent, last, leaked = time.monotonic() - began, _size(scene.server.log), scene.usage.resident()
    scene.tried.n += len(done)
    # the first ones of a minute may have a line each; those beyond come on and on
    a_day = (first - empty) * A_DAY / 60 + (last - first) / spent * A_DAY
    _judge_flood(scene.tried, len(done), a_day, None if resident is None or leaked is None else leaked - resident)
    return {"refusals": len(done), "log_of_a_day": _mb(a_day)}


def _judge_flood(tried: Tried, refusals: int, a_day: float, leaked: int | None) -> None:
    if a_day > A_DAYS_LOG:
        message = f"{refusals} refusals of one address: the log grows by {_mb(a_day)} a day, limit {_mb(A_DAYS_LOG)}"
        tried.add("log grows", "audit log", message)
    if leaked is not None and leaked > LEAKED:
        message = f"{refusals} refusals, after the first {FIRST}: {_mb(leaked)} more in memory, limit {_mb(LEAKED)}"
        tried.add("too much memory", "server", message)


def _refusable() -> list[bytes]:
    """Return requests that are refused for different reasons, long where a server might keep what was sent."""
    long = [("User-Agent", "a" * 4000), ("X-Request-Id", "b" * 4000)]
    return [
        client.request("POST", "/predict", b"x" * LARGE, long),
        client.request("POST", "/predict?" + "q" * 4000, b'{"pixels": []}'),
        client.request("POST", "/predict", b"\x89PNG" + b"x" * LARGE, kind="image/png"),
        client.request("PUT", "/predict", b"{}", long),
    ]


def _size(log: Path) -> int:
    return sum(path.stat().st_size for path in log.parent.glob(f"{log.name}*") if path.is_file())


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
