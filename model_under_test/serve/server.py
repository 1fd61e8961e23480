"""A listening socket and the loop that serves it: uvicorn, with our connections, a watch on the log, and a drain."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from model_under_test.serve.app import Application
from model_under_test.serve.connection import LINGER_SECONDS, Connection
from model_under_test.serve.service import Service

TICKS = 5  # of uvicorn, a tenth of a second each, between two looks at the connections and the log
BACKLOG = 128
SEND_BUFFER_BYTES = 2**16  # of the kernel, for each connection: what a client that does not read can make us keep


class Server(uvicorn.Server):
    """Serves until it is told to end; then it says so, and answers what was asked."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        """Listen; :meth:`run` serves.

        Raises:
            OSError: the address cannot be had, or is none.
        """
        self.service, self._app = service, Application(service)
        self._ready: Callable[[], None] = lambda: None
        self._ends: float | None = None
        self._socket = _listening(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        limits = service.settings
        config = uvicorn.Config(
            self._app,
            http=cast("Any", partial(Connection, service)),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # what a client says of where it comes from is not believed
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, round(limits.request_seconds)),
            timeout_graceful_shutdown=round(limits.request_seconds + limits.write_seconds + LINGER_SECONDS),
        )
        super().__init__(config)

    def run(self, ready: Callable[[], None] = lambda: None) -> None:  # type: ignore[override]
        """Serve until drained; ``ready`` is called once connections are accepted."""
        self._ready = ready
        try:
            super().run(sockets=[self._socket])
        finally:
            self._app.close()
            self.service.tick(end=True)

    def drain(self) -> None:
        """Say that it is not ready, go on for ``drain_seconds``, stop listening, answer what was asked, and end."""
        self.service.draining = self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain; uvicorn would die of the signal in the end, and a drained server ends with 0."""
        self.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Look after connections and log; returns whether it is time to stop listening."""
        await super().on_tick(counter)
        now = time.monotonic()
        if counter % TICKS == 0:
            self._end_the_late(now)
            await self._app.mind(self.service.tick)
        if not self.should_exit:
            return False
        self._ends = self._ends or now + self.service.settings.drain_seconds
        return now >= self._ends

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for answers, and meanwhile give up on who is late."""
        while self.server_state.connections or self.server_state.tasks:
            self._end_the_late(time.monotonic())
            await asyncio.sleep(0.05)

    def _end_the_late(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            cast(Connection, connection).end_when_late(now)


def _listening(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # an answer goes out in two parts; without this the second waits for the client to acknowledge the first, 40 ms
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind(address)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
