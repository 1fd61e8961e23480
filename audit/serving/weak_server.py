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
from collections import Counter, defaultdict, deque
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Lock, Thread, Timer
from typing import Any
from urllib.parse import unquote

WEAKNESSES = ("crashes", "patient", "trusting", "blind", "exposed", "drops", "forgetful", "mistaken")
DEFAULTS = {"body_bytes": 2**20, "in_flight": 8, "rate_per_minute": 10_000, "header_seconds": 10, "request_seconds": 10}
HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
FORGOTTEN = 10_000  # lines of the log that the forgetful one keeps in memory
FIRST, WORK = "0" * 64, 0.004  # hash before the first line; seconds that an answer takes


class Log:
    """A hash chain of JSON lines; a torn last line is moved aside."""

    def __init__(self, path: Path, weak: str) -> None:
        """Go on where the file ends."""
        self.path, self.weak, self.lock, self.kept = path, weak, Lock(), list[str]()
        whole, _, torn = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
        if torn:
            path.with_name(f"{path.name}.torn-1").write_bytes(torn)
            path.write_bytes(whole + b"\n" if whole else b"")
        self.refused, self.folded, self.due = Counter[str](), Counter[tuple[str, int]](), 0.0
        lines = whole.splitlines()
        self.seq, self.last = len(lines), json.loads(lines[-1])["hash"] if lines else FIRST

    def add(self, **entry: Any) -> None:
        """Write one line to the operating system; the forgetful one puts that off. Many refusals share one."""
        with self.lock:
            self.refused[entry["client"]] += (refusal := entry["status"] != 200 and "count" not in entry)
            if refusal and self.refused[entry["client"]] > 10:
                self.folded[entry["client"], entry["status"]] += 1
                return
            self.seq += 1
            now = datetime.now(UTC).isoformat()
            entry |= {"seq": self.seq, "time": now, "previous": self.last}
            self.last = entry["hash"] = chained(entry)
            self.kept.append(json.dumps(entry) + "\n")
            if self.weak != "forgetful" or len(self.kept) >= FORGOTTEN:
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(self.kept)
                self.kept.clear()

    def fold(self) -> None:
        """Write the refusals that share a line, where it is time to."""
        if self.folded and time.monotonic() > self.due:
            with self.lock:
                folded, self.folded, self.due = self.folded, Counter(), time.monotonic() + 5
            for (client, status), times in folded.items():
                self.add(client=client, status=status, count=times)


def chained(entry: dict[str, Any]) -> str:
    """Return the hash of a line's other keys."""
    rest = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify(path: Path, weak: str) -> int:
    """Follow the chain; the blind one only counts lines."""
    lines, last = path.read_bytes().split(b"\n"), FIRST
    for number, line in enumerate(lines[:-1] if weak != "blind" else [], start=1):
        try:
            entry = json.loads(line)
            whole = entry["previous"] == last and entry["hash"] == chained(entry) and entry["seq"] == number
        except (ValueError, KeyError):
            whole = False
        if not whole:
            return _fail(f"{path.name}: line {number}: not what was written", 1)
        last = entry["hash"]
    if lines[-1] and weak != "blind":
        return _fail(f"{path.name}: line {len(lines)}: torn", 1)
    sys.stdout.write(f"verified: {len(lines) - 1} records\n")
    return 0


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
        self.log, self.busy = Log(options.log, self.weak), BoundedSemaphore(self.settings["in_flight"])
        self.asked: dict[str, deque[float]] = defaultdict(deque)
        super().__init__(("127.0.0.1", options.port), Handler)

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
        if (self.command, path) == ("POST", "/predict"):
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
            return self._say(503 if path == "/readyz" and not same and weak != "blind" else 200, {"status": "shown"})
        return self._error(404)

    def _predict(self) -> None:
        refused, client = self._refused("predict")
        if refused := 429 if self.server.limited(client) else refused:
            return self._error(refused, client)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 12:
            return self._error(400, client)
        if int(length) > (2**23 if self.server.weak == "patient" else self.server.settings["body_bytes"]):
            return self._error(413, client)
        body = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json" or self.headers.get("Content-Encoding"):
            return self._error(415, client, body)
        return self._answer(body, client)

    def _answer(self, body: bytes, client: str) -> None:
        server = self.server
        if not server.busy.acquire(blocking=False):
            return None if server.weak == "drops" else self._error(503, client, body)
        try:
            time.sleep(WORK)
            json.loads(body)
        except (ValueError, RecursionError):
            if server.weak == "crashes":
                return self._say(500, {"error": traceback.format_exc()}, client, body)
            return self._error(400, client, body)
        finally:
            server.busy.release()
        digest = hashlib.sha256(body).hexdigest()
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
            chosen = said.get("class") if status == 200 else None
            entry = {"request_id": request_id, "client": client, "input_sha256": digest, "status": status}
            self.server.log.add(**entry, **{"model_digest": f"sha256:{self.server.digest}", "class": chosen})
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


def make_token(path: Path, name: str, scopes: list[str] | None, expires: str | None) -> int:
    """Print a new token and keep its hash; without scopes, take the tokens of that name away."""
    token, known = secrets.token_urlsafe(24), json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {digest: entry for digest, entry in known.items() if entry["name"] != name}
    if scopes:
        known[hashlib.sha256(token.encode()).hexdigest()] = {"name": name, "scopes": scopes, "expires": expires}
        sys.stdout.write(f"{token}\n")
    path.with_suffix(".new").write_text(json.dumps(known), encoding="utf-8")
    path.with_suffix(".new").replace(path)
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    with Server(options) as server:
        signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.shutdown).start())
        sys.stdout.write(f"serving on http://127.0.0.1:{server.server_address[1]}\n")
        sys.stdout.flush()
        server.service_actions = server.log.fold  # type: ignore[method-assign]  # between two connections
        server.serve_forever(poll_interval=0.05)
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
