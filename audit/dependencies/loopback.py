"""A snapshot as an advisory service on this machine's loopback address, for as long as the client runs."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import Thread
from typing import Any

from audit.dependencies.advisories import Snapshot
from audit.dependencies.osv import ECOSYSTEM

ADDRESS = "127.0.0.1"
PATH = "/v1/query"
LARGEST_QUERY = 2**16  # bytes


@contextmanager
def serving(snapshot: Snapshot) -> Iterator[str]:
    """Serve a snapshot on a free port of the loopback address; gives the URL of its query interface."""
    with _Server(snapshot) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://{ADDRESS}:{server.server_address[1]}{PATH}"
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's own class: that asks the resolver for this machine's name before it listens."""

    daemon_threads = True

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        super().__init__((ADDRESS, 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hangs up: it tells for itself what it did not get."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one kind of question: POST /v1/query with package and version, as the OSV query API does."""

    protocol_version = "HTTP/1.1"  # one connection for all packages
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH or not length.isdecimal() or int(length) > LARGEST_QUERY:
            self.close_connection = True
            return self._answer(HTTPStatus.BAD_REQUEST, {"message": f"expected POST {PATH} with a short query"})
        try:
            query = json.loads(self.rfile.read(int(length)))
            package = query["package"]
            if package["ecosystem"] != ECOSYSTEM:
                raise ValueError(f"ecosystem: expected {ECOSYSTEM}")
            found = self.server.snapshot.query(package["name"], query["version"])
        except (ValueError, KeyError, TypeError) as error:
            return self._answer(HTTPStatus.BAD_REQUEST, {"message": f"expected package and version ({error})"})
        return self._answer(HTTPStatus.OK, {"vulns": found} if found else {})

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the terminal."""
