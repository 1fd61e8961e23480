"""waitress, with what it leaves open: deadlines that a slow client cannot renew, refusals in our words, and a drain.

waitress reads headers and bodies in one thread without blocking and hands whole requests to worker threads, so a slow
client costs a connection and no thread. What is added here, by subclassing the classes that waitress names as such:

- a request has a deadline from its first byte on (``header_seconds``, ``request_seconds``), not from its last;
- beyond ``connections``, the connection that has kept us waiting longest is closed for the newcomer;
- what waitress refuses by itself (bad HTTP, bodies too large) is answered and recorded like everything else;
- after a refusal the rest of the body is read and thrown away for a moment, so that the client gets to see the answer;
- SIGTERM stops listening, answers what was accepted, and ends.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from model_under_test.serve.problems import HEADERS, Problem, timed_out
from model_under_test.serve.service import BEGUN, Service

SPARE_THREADS = 4  # beyond those that predict: for refusals, health and the page
HEADER_BYTES = 2**14
LINGER_SECONDS, LINGER_BYTES = 2.0, 2**26
TICK_SECONDS = 0.5
_REFUSALS = {
    413: ("too_large", "The body is too large."),
    431: ("headers_too_large", "The headers are too large."),
}


class TimedOut(Error):
    """The mark on a request that did not arrive in time."""

    code, reason = 503, "Service Unavailable"


class Parser(HTTPRequestParser):
    """A request on its way in; knows when it began, and how."""

    def __init__(self, adjustments: Any) -> None:
        """Start the clock: waitress makes a parser when the first byte of a request arrives."""
        super().__init__(adjustments)
        self.begun = time.monotonic()
        self._beginning = b""

    def received(self, data: bytes) -> int:
        """Take bytes in; keep the first of them, which a refusal of huge headers would forget."""
        if len(self._beginning) < 64:
            self._beginning += data[: 64 - len(self._beginning)]
        consumed: int = super().received(data)
        return consumed

    def parse_header(self, header: bytes) -> None:
        """Parse the headers; an address or a length that Python cannot read is bad HTTP, not the connection's end."""
        try:
            super().parse_header(header)
        except ValueError as error:
            raise ParsingError("unreadable") from error

    @property
    def predicting(self) -> bool:
        """Tell whether the request was on its way to /predict."""
        words = self._beginning.split(maxsplit=2)
        path = getattr(self, "path", "") if not self.error or self.error.code == 413 else ""
        return "/" + path.lstrip("/") == "/predict" or (len(words) > 1 and words[1].split(b"?")[0] == b"/predict")


class Task(WSGITask):
    """A request that reached the application."""

    def get_environment(self) -> Any:
        """Add when the request began."""
        environment = super().get_environment()
        environment[BEGUN] = self.request.begun
        return environment

    def build_response_header(self) -> bytes:
        """Begin the answer; while draining, ask the client to send no more on this connection."""
        if self.channel.server.draining:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class Refusal(ErrorTask):
    """A request that waitress itself refuses; answered and recorded in our form."""

    def execute(self) -> None:
        """Record, then answer."""
        server, request = self.channel.server, self.request
        problem, request_id = server.service.refuse(
            _problem(request.error, server.service),
            client=str(self.channel.addr[0]),
            begun=getattr(request, "begun", time.monotonic()),
            predicting=getattr(request, "predicting", False),
        )
        body = problem.body(request_id)
        self.status = f"{problem.status} {request.error.reason if problem.status == request.error.code else 'Refused'}"
        headers = {**HEADERS, **problem.headers, "X-Request-Id": request_id, "Content-Type": "application/json"}
        self.response_headers.extend(headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.lingers = True
        self.write(body)


def _problem(error: Error, service: Service) -> Problem:
    if isinstance(error, TimedOut):
        return timed_out(service.settings.request_seconds)
    if error.code in _REFUSALS:
        return Problem(error.code, *_REFUSALS[error.code])
    if error.code == 500:
        return Problem(500, "internal", "Something went wrong here; the request id tells the operator what.")
    return Problem(400, "bad_request", "The request is not HTTP as this server speaks it.")


class Channel(HTTPChannel):
    """One connection."""

    task_class, error_task_class, parser_class = Task, Refusal, Parser
    request: Parser | None
    lingers = False
    _lingering_since: float | None = None
    _thrown_away = 0

    def waiting_since(self) -> float | None:
        """Say since when (wall clock) this connection has kept us waiting; None while it is us who work."""
        if self.requests or self.total_outbufs_len:
            return None
        if self.request is None:
            return float(self.last_activity)
        return time.time() - (time.monotonic() - float(self.request.begun))

    def cut_off_when_late(self, now: float) -> None:
        """Refuse a request that has not arrived in its time, and stop lingering in time."""
        limits = self.server.service.settings
        if self._lingering_since is not None:
            if now - self._lingering_since > LINGER_SECONDS:
                super().handle_close()
            return
        with self.requests_lock:
            request = self.request
            if request is None or self.requests or self.will_close or self.close_when_flushed:
                return
            allowed = limits.request_seconds if request.headers_finished else limits.header_seconds
            if now - request.begun > allowed:
                request.error, request.completed, self.request = TimedOut("too slow"), True, None
                self.requests.append(request)
                self.server.add_task(self)

    def handle_close(self) -> None:
        """Close; after a refusal, first say that nothing more comes, and let the client finish sending."""
        if self.lingers and self._lingering_since is None and self.connected:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                self._lingering_since, self.will_close = time.monotonic(), False
                return
        super().handle_close()

    def readable(self) -> bool:
        """Tell whether to read; while lingering, always."""
        return self._lingering_since is not None or bool(super().readable())

    def handle_read(self) -> None:
        """Read; while lingering, throw it away."""
        if self._lingering_since is None:
            super().handle_read()
            return
        try:
            data = self.recv(self.adj.recv_bytes)
        except OSError:
            data = b""
        self._thrown_away += len(data)
        if not data or self._thrown_away > LINGER_BYTES:
            super().handle_close()


class Server(TcpWSGIServer):
    """A listening socket, its connections, and the loop that serves them."""

    channel_class = Channel
    draining = False

    def __init__(self, application: Any, service: Service, host: str, port: int) -> None:
        """Listen; :meth:`run` serves.

        Raises:
            OSError: the address cannot be had.
            ValueError: it is none.
        """
        self.service = service
        limits = service.settings
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(limits.in_flight + SPARE_THREADS)
        adjustments = Adjustments(
            host=host,
            port=port,
            ident=None,
            max_request_body_size=limits.body_bytes + 1,  # waitress refuses what reaches it
            max_request_header_size=HEADER_BYTES,
            inbuf_overflow=limits.body_bytes + 1,  # bodies stay in memory: nothing of them reaches the disk
            connection_limit=limits.connections + 8,  # a last resort; _make_room comes first
            cleanup_interval=1,
            channel_timeout=max(1, round(limits.request_seconds)),
            asyncore_use_poll=True,
            log_socket_errors=False,
            expose_tracebacks=False,
        )
        super().__init__(application, map={}, dispatcher=dispatcher, adj=adjustments, sockinfo=adjustments.listen[0])

    def handle_accept(self) -> None:
        """Take a connection in, at the cost of the one that has kept us waiting longest when there are too many."""
        super().handle_accept()
        surplus = len(self.active_channels) - self.service.settings.connections
        if surplus > 0:
            waiting = [(since, id(one), one) for one in self.active_channels.values() if (since := one.waiting_since())]
            for _, _, channel in sorted(waiting)[:surplus]:
                channel.lingers = False
                channel.handle_close()

    def drain(self, *_: Any) -> None:
        """Stop listening, answer what was accepted, then let :meth:`run` return. Fit to be a signal handler."""
        self.draining = True
        self.pull_trigger()

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until drained; ``ready`` is called once connections are accepted."""
        ready()
        tick, until = 0.0, None
        while True:
            wasyncore.loop(timeout=TICK_SECONDS, use_poll=True, map=self._map, count=1)
            now = time.monotonic()
            if now - tick >= TICK_SECONDS:
                tick = now
                for channel in list(self.active_channels.values()):
                    channel.cut_off_when_late(now)
            if self.draining:
                if until is None:
                    until = self._stop_listening(now)
                if now > until or not self._busy(now):
                    break
        self.task_dispatcher.shutdown(timeout=self.service.settings.request_seconds)
        wasyncore.close_all(self._map)

    def _stop_listening(self, now: float) -> float:
        """Take in what the kernel has accepted for us, close the socket, and say how long to wait at most."""
        waiting = None
        while waiting != len(self.active_channels):
            waiting = len(self.active_channels)
            self.handle_accept()
        wasyncore.dispatcher.close(self)
        self._stopped = now
        return now + self.service.settings.request_seconds + LINGER_SECONDS

    def _busy(self, now: float) -> bool:
        """Tell whether anybody still waits for an answer; who has connected may still be about to ask."""
        grace = now - self._stopped < 2 * TICK_SECONDS
        return grace or any(
            one.requests or one.request is not None or one.total_outbufs_len or one.close_when_flushed
            for one in self.active_channels.values()
        )
