"""Secrets that are planted where a server can see them; every answer of a check is searched for them."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audit.serving import client
from audit.serving.bench import ORDINARY, PLANTED, SECRETS, Bench, Server, Tried, entries
from audit.serving.client import Answer, Header

OPEN_PAGES = ("/", "/healthz", "/readyz", "/openapi", "/openapi.json", "/v2", "/v2/health/ready", "/v2/models/digits")
READY = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
PREDICTING = ("/predict", "/v1/predict", "/v2/models/digits/infer")
WITHIN = 5.0  # seconds in which a server notices that its file of tokens is none any more
SHORTEST = 8  # characters of what counts as a secret


class Listener:
    """Sends requests, and searches every answer for what was planted, and for redirects to elsewhere."""

    def __init__(self, server: Server, tried: Tried, planted: Mapping[str, str]) -> None:
        """Listen to what a server says; ``planted`` has each secret by what it is."""
        self.server, self.tried, self.planted = server, tried, dict(planted)

    def send(self, sent: bytes) -> Answer | None:
        """Send a request."""
        self.tried.n += 1
        answer = self.server.send(sent)
        if answer is not None:
            self._search(line(sent), answer)
        return answer

    def get(self, path: str, headers: tuple[Header, ...] = ()) -> Answer | None:
        """Ask for a page."""
        return self.send(client.request("GET", path, headers=headers))

    def _search(self, where: str, answer: Answer) -> None:
        for what in told(answer.text, self.planted):
            self.tried.add("secret told", where, f"status {answer.status} tells {what}")
        location = answer.header("Location")
        if location is not None and not is_local(location, self.server.port):
            self.tried.add("redirects elsewhere", where, f"status {answer.status}, Location: {location[:120]}")


def line(sent: bytes) -> str:
    """Return method and path of a request, for a message."""
    words = sent.split(b"\r\n", 1)[0].decode("ascii", errors="replace").split()[:2]
    return " ".join(words)[:100]


def told(text: str, planted: Mapping[str, str]) -> list[str]:
    """Return which secrets a text holds, as they are, in base64 or in hexadecimal."""
    found, lower = [], text.lower()
    for what, secret in planted.items():
        raw = secret.encode()
        forms = {"": secret.lower(), " in hexadecimal": raw.hex(), " backwards": secret[::-1].lower()}
        forms[" in base64"] = base64.b64encode(raw).decode().rstrip("=").lower()
        found += [f"{what}{form}" for form, said in forms.items() if len(secret) >= SHORTEST and said in lower][:1]
    return found


def is_local(location: str, port: int) -> bool:
    """Tell whether a redirect stays here: a path, or our own address."""
    if re.match(r"[/\\]{2}|[/\\][\t\r\n]*[/\\]", location):
        return False
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location):
        return re.fullmatch(rf"https?://(?:127\.0\.0\.1|localhost)(?::{port})?(?:/.*)?", location) is not None
    return True


def places(bench: Bench) -> dict[str, str]:
    """Return what every server of a bench should keep to itself."""
    found = {"a secret of its environment": PLANTED, "the folder that it works in": str(bench.folder)}
    return found | {"the folder of its program": str(bench.subject.root)}


def with_tokens(bench: Bench) -> Tried:
    """Start a server with tokens, and listen to what it tells whom: the tokens, what was sent, the state of its log."""
    tried, file, mark = Tried(), bench.folder / "tokens.json", f"mark{secrets.token_hex(12)}"
    several = {scope: bench.make_token(file, f"of-{scope}", scope) for scope in ("predict", "metrics")}
    planted = places(bench) | {f"the {scope} token": token for scope, token in several.items()}
    for scope, token in several.items():
        planted[f"the hash of the {scope} token"] = hashlib.sha256(token.encode()).hexdigest()
    stored = re.findall(r"[A-Za-z0-9+/=_-]{32,}", file.read_text(encoding="utf-8"))
    planted |= {f"what is stored of a token ({index + 1})": text for index, text in enumerate(stored)}
    planted |= {"the body that was sent": mark, "a number of the body that was sent": "0.1357924680135"}
    with bench.serving(ORDINARY, tokens=file, log="told.jsonl", environment=SECRETS) as server:
        listener = Listener(server, tried, planted)
        bearers = {scope: ("Authorization", f"Bearer {token}") for scope, token in several.items()}
        for sent in _tellers(bench, mark, bearers["predict"], several["predict"]):
            listener.send(sent)
        _open_pages(listener, server.log, (), None)
        for scope, bearer in bearers.items():
            _open_pages(listener, server.log, (bearer,), scope)
        _not_ready(listener, file, bearers["metrics"], tried)
    return tried


def _tellers(bench: Bench, mark: str, bearer: Header, token: str) -> Iterator[bytes]:
    """Yield requests with secrets in them, answered and refused."""
    spoiled = bench.sample.replace(b"[", b"[0.1357924680135, ", 1)
    malformed = [
        f'{{"pixels": ["{mark}"]}}',
        f'{{"{mark}": 1}}',
        mark,
        f'{{"pixels": [{mark}]}}',
        f'{{"pixels": "{mark}',
    ]
    malformed += [f'{{"inputs": [{{"name": "{mark}", "datatype": "{mark}", "shape": ["{mark}"]}}]}}', f'"{mark}"']
    bodies = [bench.sample, spoiled, *(text.encode() for text in malformed)]
    for path in PREDICTING:
        for body in bodies:
            yield client.request("POST", path, body, [bearer])
        yield client.request("POST", path, mark.encode(), [bearer], kind=f"text/{mark}")
        yield client.request("POST", path, mark.encode(), [bearer], kind="image/png")
        yield client.request("POST", path, b"\x89PNG\r\n\x1a\n" + mark.encode(), [bearer], kind="image/png")
        yield client.request("POST", path, bench.sample, [("Authorization", f"Basic {token}")])
        yield client.request("POST", path, bench.sample, [("Authorization", f"Bearer {token}x")])
        yield client.request("DELETE", path, headers=[bearer])
    for path in ("/", "/does-not-exist", "/metrics"):
        yield client.request("GET", path, headers=[bearer])


def _open_pages(listener: Listener, log: Path, headers: tuple[Header, ...], scope: str | None) -> None:
    """Look at what everybody may see; only who may read the figures may learn about the log."""
    chain = {f"hash {entry.get('seq')} of its log": str(entry.get("hash", "")) for entry in entries(log)[-40:]}
    whole = listener.planted
    if scope != "metrics":
        listener.planted = whole | chain
    for path in (*OPEN_PAGES, "/metrics"):
        answer = listener.get(path, headers)
        if path in READY and answer is not None and scope != "metrics":
            who = f"a token of the scope {scope}" if scope else "no token"
            for said in figures(answer):
                listener.tried.add("readiness tells", path, f"{who}: status {answer.status} tells {said}")
    listener.planted = whole


def figures(answer: Answer) -> list[str]:
    """Return the numbers that an answer about health tells, of records, bytes or whatever; its status is none."""
    if not answer.json:
        return re.findall(rb"\d+", answer.body) and [f"{answer.body[:60]!r}"]
    return [
        f"{key}: {value}"
        for key, value in leaves(answer.json)
        if isinstance(value, int | float) and not isinstance(value, bool) and (key, value) != ("status", answer.status)
    ]


def leaves(found: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a JSON value holds at its ends, each with its key."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from leaves(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from leaves(value, key)
    else:
        yield key, found


def _not_ready(listener: Listener, file: Path, bearer: Header, tried: Tried) -> None:
    """Damage the file of tokens, and see who learns why the server is not ready."""
    private, public = listener.get("/readyz", (bearer,)), listener.get("/readyz")
    if private is None or public is None or private.status != 200 or not figures(private):
        tried.settings["not_tried"] = ["reasons for not being ready: no token is told any"]
        return
    before = {str(value) for _, value in leaves(private.json)}
    file.write_text("{", encoding="utf-8")
    deadline = time.monotonic() + WITHIN
    while (answer := listener.get("/readyz", (bearer,))) is None or answer.status == 200:
        if time.monotonic() > deadline:
            tried.settings["not_tried"] = ["reasons for not being ready: damaged tokens left it ready"]
            return
        time.sleep(0.2)
    reasons = {str(value) for key, value in leaves(answer.json) if key != "request_id"} - before
    public = listener.get("/readyz")
    for reason in reasons:
        if public is not None and len(reason) >= SHORTEST and reason in public.text:
            tried.add("readiness tells", "/readyz", f"no token: status {public.status} tells why: {reason[:120]}")
