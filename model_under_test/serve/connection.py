"""One connection: uvicorn's, with limits that a client cannot wait out, and refusals in our words.

uvicorn gives each connection to the event loop and pauses the reading where nobody reads the answers. What is added:

- a request has a deadline from its first byte on, not from its last (``header_seconds``, ``request_seconds``);
- an answer that is not read is given up (``write_seconds``); reading a byte now and then does not help, since the time
  counts until all of it is gone;
- what is kept for a client is bounded: headers, chunks, body, requests sent ahead, bytes not yet read;
- whatever is not acceptable HTTP reaches the application as a :class:`Problem`, so it is answered and recorded like
  everything else; the rest of a refused body is read and dropped for a moment, so that the client sees the answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from model_under_test.serve import problems
from model_under_test.serve.hosts import host_allowed
from model_under_test.serve.problems import Problem
from model_under_test.serve.service import BEGUN, PROBLEM, Service

HEADER_BYTES, MOST_HEADERS = 2**14, 100
MOST_AHEAD = 16  # requests that a client may send before it has read the answers
BYTES_A_CHUNK = 64  # on average, at least: small chunks cost as much as large ones
SPARE_CHUNKS = 64
LINGER_SECONDS, LINGER_BYTES = 2.0, 2**26
LAST_SECONDS = 1.0  # that whoever has just connected has for a request, once the server is about to end
UNREAD_BYTES = 2**15  # of answers, beyond which no further one is begun


class Connection(HttpToolsProtocol):
    """What one client sends and is sent."""

    def __init__(self, service: Service, **given: Any) -> None:
        """Start with nothing received; ``given`` is what uvicorn hands to its protocol."""
        super().__init__(**given)
        self._service, self._limits = service, service.settings
        self._begun: float | None = None  # of the request that is being read
        self._idle_since = self._unread_since = time.monotonic()
        self._in_body = False
        self._started: Any = None  # the request that is being answered, where others wait behind it
        self._beginning = self.url = b""
        self._received = self._header_bytes = self._body_bytes = self._chunks = 0
        self._problem: Problem | None = None
        self._refused = self._last = False
        self._lingering_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, at the cost of the one that has kept us waiting longest where there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        others = [one for one in cast("set[Connection]", self.connections) if one is not self and one.stays]
        if len(others) >= self._limits.connections:
            waiting = [(since, id(one), one) for one in others if (since := one.waiting_since()) is not None]
            if waiting:
                min(waiting)[2].transport.abort()
            elif len(others) < 2 * self._limits.connections:
                self.refuse(problems.busy())
            else:
                transport.abort()

    @property
    def stays(self) -> bool:
        """Tell whether the connection is not about to end."""
        return not self.transport.is_closing()

    def waiting_since(self) -> float | None:
        """Say since when (monotonic) this client has kept us waiting; None while it is us who work."""
        if self.transport.get_write_buffer_size():
            return self._unread_since
        if self._begun is not None:
            return self._begun
        working = self.cycle is not None and not self.cycle.response_complete
        return None if working else self._idle_since

    def end_when_late(self, now: float) -> None:
        """Refuse a request that has not arrived in its time; give up on who does not read, or stays silent."""
        limits = self._limits
        if not self.transport.get_write_buffer_size():
            self._unread_since = now
        if now - self._unread_since > limits.write_seconds:
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._lingering_since is not None:
            if now - self._lingering_since > LINGER_SECONDS:
                self.transport.abort()
        elif self._begun is not None and not self._refused:
            if now - self._begun > (limits.request_seconds if self._in_body else limits.header_seconds):
                self.refuse(problems.timed_out(limits.request_seconds))
        elif self._silent(now) > (LAST_SECONDS if self._last else limits.request_seconds):
            self.transport.abort()

    def _silent(self, now: float) -> float:
        since = self.waiting_since()
        return 0.0 if since is None else now - since

    def refuse(self, problem: Problem) -> None:
        """Let the application answer with a problem, then end the connection; what else arrives is dropped."""
        self._refused = True
        problem.headers["Connection"] = "close"
        if self._in_body and not self._gives_up():
            return
        state = {PROBLEM: problem, BEGUN: self._begun or time.monotonic()}
        cycle = RequestResponseCycle(
            scope=cast("Any", self._asked() | {"state": state}),
            transport=cast("Any", _Parting(self)),
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=lambda: None,
        )
        working = self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected
        self.cycle, self._begun = cycle, None
        if working:
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def _gives_up(self) -> bool:
        """Give up the request whose body is being read; tell whether it can still be answered otherwise."""
        if self.pipeline and self.pipeline[0][0] is self.cycle:  # not begun: another answer waits in its place
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._started
            return True
        if self.cycle.response_started:
            self.linger() if self.cycle.response_complete else self.transport.abort()
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def _asked(self) -> dict[str, Any]:
        """Return what is known of the request that is refused."""
        words = self._beginning.split(maxsplit=2)
        url = self.url or (words[1] if len(words) > 1 else b"")
        method = b"" if self.parser is None else self.parser.get_method()
        return {
            "type": "http",
            "http_version": "1.1",
            "method": method.decode("ascii", errors="replace"),
            "path": url.split(b"?")[0].decode("ascii", errors="replace"),
            "query_string": b"",
            "headers": [],
            "client": self.client,
        }

    def linger(self) -> None:
        """Say that nothing more comes, and let the client finish sending, for a moment."""
        if self._lingering_since is None and not self.transport.is_closing():
            self._lingering_since = time.monotonic()
            self.flow.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    # what uvicorn calls

    def data_received(self, data: bytes) -> None:
        """Take bytes in; refuse headers that are too many before they are whole."""
        self._received += len(data)
        if self._refused:
            if self._received > LINGER_BYTES:
                self.transport.abort()
            return
        if self._begun is None:
            self._begun, self._received, self._beginning = time.monotonic(), len(data), data[:64]
        super().data_received(data)
        if self._begun is not None and not self._in_body and not self._refused and self._received > HEADER_BYTES:
            self.refuse(_headers_too_large())

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed, or what one of the calls below did not accept."""
        if not self._refused:
            self.refuse(self._problem or problems.bad_request())

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a client that has sent all it had; a request that is not whole by then never will be."""
        if self._lingering_since is not None:
            self.transport.close()
        elif self._begun is not None and not self._refused:
            self.refuse(problems.bad_request())
        elif self.cycle is None or self.cycle.response_complete:
            return None
        else:
            self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        if len(self.pipeline) >= MOST_AHEAD:
            self._fail(problems.bad_request(f"More than {MOST_AHEAD} requests were sent ahead."))
        super().on_message_begin()
        self._begun = self._begun or time.monotonic()
        self._header_bytes = self._body_bytes = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the address in."""
        super().on_url(url)
        self._header_bytes += len(url)
        if self._header_bytes > HEADER_BYTES:
            self._fail(_headers_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header in."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES or len(self.headers) > MOST_HEADERS:
            self._fail(_headers_too_large())

    def on_headers_complete(self) -> None:
        """Refuse what the headers forbid; else hand the request to the application."""
        problem = self._forbidden()
        if problem:
            self._fail(problem)
        self.scope["state"][BEGUN] = self._begun
        super().on_headers_complete()
        self._in_body = True
        if self._last:
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """Count a chunk."""
        self._chunks += 1
        if self._chunks > SPARE_CHUNKS + self._limits.body_bytes // BYTES_A_CHUNK:
            self._fail(problems.too_large())

    def on_body(self, body: bytes) -> None:
        """Take a part of a body in."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._fail(problems.too_large())
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock of the request."""
        super().on_message_complete()
        self._begun, self._in_body, self._received = None, False, 0
        self._idle_since = time.monotonic()

    def on_response_complete(self) -> None:
        """Begin with the next request, if it is there already."""
        self._idle_since = time.monotonic()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._started = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """End the connection once it is idle: a request that has begun to arrive, or is about to, is still answered."""
        self._last = True
        if self.cycle is not None:
            self.cycle.keep_alive = False
            if self._begun is None:
                super().shutdown()

    def _fail(self, problem: Problem) -> None:
        """Stop the parser, which has uvicorn refuse the request."""
        self._problem = problem
        raise ValueError(problem.code)

    def _forbidden(self) -> Problem | None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            values.setdefault(name, []).append(value.strip())
        hosts, lengths = values.get(b"host", []), values.get(b"content-length", [])
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            return problems.bad_request()
        if len(hosts) != 1:
            return problems.bad_request("Expected one Host header.")
        named = b"" if self.url.startswith(b"/") else self.url.partition(b"://")[2].partition(b"/")[0]
        if not all(host_allowed(host, self._limits.hosts) for host in (hosts[0], named or hosts[0])):
            return Problem(421, "misdirected", "This server does not answer for that host.", close=True)
        if values.get(b"transfer-encoding", [b"chunked"]) != [b"chunked"]:
            return problems.bad_request("Expected Transfer-Encoding: chunked, or none.")
        if lengths and (b"transfer-encoding" in values or len(lengths) > 1):
            return problems.bad_request("Expected one Content-Length, or Transfer-Encoding.")
        if any(one.lower() != b"identity" for one in values.get(b"content-encoding", [])):
            return Problem(415, "unsupported_encoding", "Expected a body without Content-Encoding.", close=True)
        if lengths and int(lengths[0]) > self._limits.body_bytes:
            return problems.too_large()
        if self.parser.should_upgrade():
            return problems.bad_request("This server speaks HTTP/1.1 only.")
        return None


class _Parting:
    """Where the last answer of a connection is written: closing it lets the client finish sending."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing

    def close(self) -> None:
        self._connection.linger()


def _headers_too_large() -> Problem:
    return Problem(431, "headers_too_large", "The headers are too large.", close=True)
