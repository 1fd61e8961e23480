"""A stand-in for a server of models, with a weakness for each check to find: ``--weak NAME``.

Without one it keeps what the checks require, on the standard library alone, so that a check that finds a weakness finds
that and nothing else. It serves no model: answers are looked up by the digest of the body in the file ``--answers``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import sys
import time
import traceback
from collections import defaultdict, deque
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Thread, Timer
from typing import Any
from urllib.parse import unquote

if not __package__:  # started as a program
    sys.path.insert(0, str(Path(__file__).parents[2]))
from audit.serving.weak_state import Log, Places, make_token, walk

WEAKNESSES = ("crashes", "patient", "trusting", "blind", "exposed", "drops", "forgetful", "mistaken")
DEFAULTS = {"body_bytes": 2**20, "in_flight": 8, "rate_per_minute": 10_000, "header_seconds": 10, "request_seconds": 10}
DEFAULTS |= {"log_bytes": 2**24, "anchor_seconds": 300}
HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
KINDS = ("application/json", "image/png", "image/jpeg", "multipart/form-data")
WORK = 0.004  # seconds that an answer takes
BYTES_A_CHUNK, SPARE_CHUNKS = 64, 256  # on average at least, and at most beyond that


class Server(ThreadingTCPServer):
    """What the requests share. The patient one serves a connection after the other, to its end."""

    request_queue_size = 128

    def __init__(self, options: argparse.Namespace) -> None:
        """Verify the weights, read settings, answers and tokens, and listen."""
        self.weak, self.weights = options.weak, next(options.weights.glob("*.safetensors"))
        self.digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        if self.weak != "blind" and self.digest != options.sha256:
            sys.exit(_fail("the weight file is not the pinned one", 3))
        self.settings = DEFAULTS | json.loads(options.settings.read_text(encoding="utf-8"))
        self.answers = json.loads(options.answers.read_text(encoding="utf-8"))
        self.tokens = None if options.open else options.tokens  # read for each request: what is revoked is refused
        self.busy = Places(self.settings["in_flight"])
        try:
            self.log = Log(options.log, self.weak, self.settings)
        except ValueError as error:
            sys.exit(_fail(str(error), 4))
        self.asked: dict[str, deque[float]] = defaultdict(deque)
        super().__init__(("127.0.0.1", options.port), Handler)

    def service_actions(self) -> None:
        """Look after the log."""
        self.log.tick()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection."""
        if self.weak == "patient":
            self.finish_request(request, client_address)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def limited(self, client: str, times: int = 1) -> bool:
        """Tell whether a client has asked too often within the last minute: ``times`` as often as one may."""
        asked, now = self.asked[client], time.monotonic()
        while asked and asked[0] < now - 60:
            asked.popleft()
        asked.append(now)
        return len(asked) > times * int(self.settings["rate_per_minute"])


class Handler(BaseHTTPRequestHandler):
    """Answers as the checks require, but for the weakness."""

    server: Server

    def handle(self) -> None:
        """Cut off whoever is too slow to ask."""
        seconds = self.server.settings["header_seconds"] + 0.0
        timer = Timer(seconds if self.server.weak != "patient" else 20 * seconds, self._cut_off)
        timer.daemon = True
        timer.start()
        try:
            super().handle()
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def __getattr__(self, name: str) -> Any:
        """Take every method to the same place."""
        if name.startswith("do_"):
            return self._dispatch
        raise AttributeError(name)

    def _dispatch(self) -> None:
        path, weak = self.path.partition("?")[0], self.server.weak
        host, origin = ",".join(self.headers.get_all("Host") or []), self.headers.get("Origin")
        ours = re.fullmatch(r"(?i)(127\.0\.0\.1|localhost)(:\d+)?", host)
        if weak != "exposed" and not (ours and origin in (None, f"http://{host}")):
            return self._error(403 if ours else 421)
        if self.command == "POST" and path in ("/predict", "/v1/predict"):
            return self._predict()
        if weak == "exposed" and self.command == "GET":
            with suppress(OSError, ValueError):
                up = unquote(path).rpartition("../")
                file = Path(f"/{up[2]}") if up[1] else Path(__file__).with_name(path.rpartition("/")[2])
                content = "\n".join(os.listdir(file)) if file.is_dir() else file.read_text(encoding="utf-8")  # noqa: PTH208
                return self._say(200, {"content": content, "listing": "Index of /"})
        if path in ("/", "/healthz", "/readyz", "/metrics"):
            same = hashlib.sha256(self.server.weights.read_bytes()).hexdigest() == self.server.digest
            if self.command not in ("GET", "HEAD"):
                return self._error(405)
            if path == "/metrics":
                refused, client = self._refused("metrics")
                if refused := 429 if self.server.limited(client) else refused:
                    return self._error(refused)
            ready = weak == "blind" or (same and not self.server.log.trouble and not self.server.log.failed)
            return self._say(503 if path == "/readyz" and not ready else 200, {"status": "shown"})
        return self._error(404)

    def _predict(self) -> None:
        refused, client = self._refused("predict")
        if refused := 429 if self.server.limited(client) else refused:
            return self._error(refused, client)
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunked = self._chunks()
            return self._error(413, client) if chunked is None else self._answer(chunked, client)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 12:
            return self._error(400, client)
        if int(length) > self._most:
            return self._error(413, client)
        body = self.rfile.read(int(length))
        if self.headers.get_content_type() not in KINDS or self.headers.get("Content-Encoding"):
            return self._error(415, client, body)
        return self._answer(body, client)

    @property
    def _most(self) -> int:
        return 2**23 if self.server.weak == "patient" else int(self.server.settings["body_bytes"])

    def _chunks(self) -> bytes | None:
        """Return a body that comes in chunks; None for one that is too large, or in too many of them."""
        body, chunks = b"", 0
        while size := int(self.rfile.readline(20), 16):
            body, chunks = body + self.rfile.read(size), chunks + 1
            self.rfile.readline(20)
            if len(body) > self._most or chunks > SPARE_CHUNKS + self._most // BYTES_A_CHUNK:
                return None
        return body

    def _answer(self, body: bytes, client: str) -> None:
        server = self.server
        digest = hashlib.sha256(body).hexdigest()
        if not server.busy.take(client):
            return None if server.weak == "drops" else self._error(503, client, body)
        try:
            time.sleep(WORK)
            if digest not in server.answers:  # a picture is no JSON
                json.loads(body)
        except (ValueError, RecursionError):
            if server.weak == "crashes":
                return self._say(500, {"error": traceback.format_exc()}, client, body)
            return self._error(400, client, body)
        finally:
            server.busy.give(client)
        if digest not in server.answers:
            return self._error(422, client, body)
        found, probabilities = server.answers[digest]
        wrong = server.weak == "mistaken" and int(digest, 16) % 20 == 0
        chosen = (found + 1) % len(probabilities) if wrong else found
        said = {"class": chosen, "probabilities": probabilities, "model_digest": f"sha256:{server.digest}"}
        return self._say(200, said, client, body)

    def _refused(self, scope: str) -> tuple[int | None, str]:
        """Return 401, 403 or None, and who asks."""
        weak, client = self.server.weak, str(self.client_address[0])
        if self.server.tokens is None:
            return None, (self.headers.get("X-Forwarded-For") or client) if weak == "trusting" else client
        given = self.headers.get_all("Authorization") or []
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        tokens = json.loads(self.server.tokens.read_text(encoding="utf-8"))
        known = tokens.get(hashlib.sha256(token.encode()).hexdigest())
        if scheme != "Bearer" or known is None:
            return 429 if self.server.limited("failures", 10) else 401, client
        expired = known["expires"] is not None and known["expires"] < datetime.now(UTC).date().isoformat()
        if weak == "trusting":
            return None, known["name"]
        return (401 if expired else None if scope in known["scopes"] else 403), known["name"]

    def _error(self, status: int, client: str | None = None, body: bytes | None = None) -> None:
        self._say(status, {"error": {"code": str(status), "message": "refused"}}, client, body)

    def _say(self, status: int, said: dict[str, Any], client: str | None = None, body: bytes | None = None) -> None:
        request_id, weak = secrets.token_hex(8), self.server.weak
        if client is not None:  # logged before it is answered
            digest = None if body is None else hashlib.sha256(body).hexdigest()
            fine = status == 200
            entry = {"request_id": request_id, "client": client, "input_sha256": digest, "status": status, "count": 1}
            entry |= {"class": said.get("class"), "confidence": max(said["probabilities"]) if fine else None}
            entry |= {"image": 0 if fine else None, "model_digest": f"sha256:{self.server.digest}"}
            try:
                self.server.log.add(**entry)
            except OSError:
                status, said = 503, {"error": "not recorded"}
        content = json.dumps(said | {"request_id": request_id}).encode()
        if weak == "exposed":
            self.send_response(status)  # with the names and versions of what it is made of
        else:
            self.send_response_only(status)
        headers = () if weak == "exposed" else HEADERS
        retry = (("Retry-After", "1"),) if status in (429, 503) else ()
        own = (("Content-Length", str(len(content))), ("Content-Type", "application/json"))
        for name, value in (*headers, *retry, *own, ("X-Request-Id", request_id), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not HTTP."""
        self.request_version = "HTTP/1.1"
        self._error(400 if code > 499 else code)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the terminal."""


def verify(path: Path, weak: str) -> int:
    """Follow the chain of a log; the blind one believes it."""
    try:
        records = 0 if weak == "blind" else walk(path)[0]
    except ValueError as error:
        return _fail(str(error), 1)
    sys.stdout.write(f"verified: {records} records\n")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    with Server(options) as server:
        signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.shutdown).start())
        sys.stdout.write(f"serving on http://127.0.0.1:{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.05)
        server.log.tick(end=True)
    return 0


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code


def main() -> int:
    """Serve, make a token, or verify a log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weak", choices=WEAKNESSES, default="")
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving, token, log = (verbs.add_parser(name) for name in ("serve", "token", "verify-log"))
    for name in ("weights", "log", "settings", "answers", "tokens"):
        serving.add_argument(f"--{name}", type=Path)
    for verb, name in ((serving, "--sha256"), (token, "--name"), (token, "--expires")):
        verb.add_argument(name)
    serving.add_argument("--open", action="store_true")
    serving.add_argument("--port", type=int, default=0)
    token.add_argument("--tokens", type=Path)
    token.add_argument("--scope", action="append")
    log.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.verb == "token":
        return make_token(options.tokens, options.name, options.scope, options.expires)
    return verify(options.file, options.weak) if options.verb == "verify-log" else serve(options)


if __name__ == "__main__":
    sys.exit(main())
