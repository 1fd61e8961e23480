"""Whom a server takes itself for, and whose pages it listens to: neither is for the client to say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from audit.serving import client
from audit.serving.chance import Chance
from audit.serving.client import Answer
from audit.serving.planted import PREDICTING, Listener, line

SEED = 5
PLACES = ("/", "/healthz", "/openapi", "/openapi.json", "/does-not-exist")
DETOURS = ("/predict/", "/openapi/", "/static", "/v2/", "/index.html", "/login", "//")
FORWARDED = (
    "X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Host",
    "X-Original-Host", "X-HTTP-Host-Override", "X-Original-URL", "X-Rewrite-URL", "X-Script-Name", "X-Base-Url",
    "Referer",
)  # fmt: skip


def hosts(listener: Listener, paths: Sequence[str], body: bytes) -> None:
    """Address requests to hosts that are not this one: none may be answered, and nothing of them may come back."""
    chance = Chance(SEED)
    mark = f"h{chance.digits(12)}"
    for host in strange_hosts(mark, listener.server.port):
        for path in (*PLACES, *DETOURS):
            _misdirected(listener, client.request("GET", path, host=host), mark, f"Host: {host}")
        _misdirected(listener, client.request("POST", "/predict", body, host=host), mark, f"Host: {host}")
    for path in PLACES:
        target = f"http://{mark}.example{path}"
        _misdirected(listener, client.request("GET", target), mark, f"GET {target}")
    second = client.request("GET", "/", headers=[("Host", f"{mark}.example")])
    _misdirected(listener, second, mark, f"two Host headers, the second {mark}.example")
    port = f":{chance.below(65_000, 61_000)}"
    for host in (f"127.0.0.1{port}", f"LocalHost{port}"):  # our host, and not our port: links show where it came from
        for path in (*paths, *DETOURS):
            _echoed(listener, client.request("GET", path, host=host), port, f"Host: {host}")
    headers = [(name, f"{mark}{index:02d}.example") for index, name in enumerate(FORWARDED)]
    headers.append(("Forwarded", f"for=192.0.2.1;host={mark}99.example;proto=https"))
    for path in (*paths, *DETOURS):
        _echoed(listener, client.request("GET", path, headers=headers), mark, "headers of a proxy")
    for path in _redirecting(f"{mark}.example"):
        listener.get(path)


def strange_hosts(mark: str, port: int) -> Iterator[str]:
    """Yield values of Host that name another host, however much they look like ours."""
    other = f"{mark}.example"
    yield from (other, f"{other}:{port}", f"127.0.0.1.{other}", f"localhost.{other}", f"{mark}localhost")
    yield from (f"127.0.0.1@{other}", f"127.0.0.1:{port}@{other}", f"{mark}@127.0.0.1", f"127.0.0.1,{other}")
    yield from (f"127.0.0.1/{mark}", f"127.0.0.1:{mark}", f"[::1].{other}", f"127.0.0.1#{other}", f"{other}#127.0.0.1")


def _redirecting(other: str) -> Iterator[str]:
    """Yield paths that careless servers redirect by."""
    yield from (
        f"//{other}/",
        f"//{other}/%2e%2e",
        f"/%5C{other}",
        f"/\\{other}",
        f"//{other}/static/..",
        f"/{other}/..",
    )
    for name in ("next", "url", "redirect", "return_to", "continue"):
        yield from (f"/?{name}=//{other}/", f"/login?{name}=https://{other}/")


def _misdirected(listener: Listener, sent: bytes, mark: str, how: str) -> None:
    answer = _echoed(listener, sent, mark, how)
    if answer is not None and answer.status < 300:
        listener.tried.add("foreign host", line(sent), f"{how}: status {answer.status}, expected 421")


def _echoed(listener: Listener, sent: bytes, mark: str, how: str) -> Answer | None:
    """Send a request; what it calls the server must not come back in a link, a redirect or anything else."""
    answer = listener.send(sent)
    at = -1 if answer is None else answer.text.lower().find(mark.lower())
    if answer is not None and at >= 0:
        around = answer.text[max(0, at - 40) : at + 40]
        listener.tried.add("echoes host", line(sent), f"{how}: status {answer.status} says {around!r}")
    return answer


def origins(listener: Listener, paths: Sequence[str], body: bytes) -> None:
    """Ask as pages of other origins would: they may read nothing, and have nothing predicted."""
    own = f"127.0.0.1:{listener.server.port}"
    for origin in foreign_origins(own):
        for path in (*paths, "/predict"):
            for method, more in (("GET", []), ("OPTIONS", [("Access-Control-Request-Method", "POST")])):
                headers = [("Origin", origin), *more]
                _shared(listener, client.request(method, path, headers=headers, host=own), origin)
        for path in PREDICTING:
            sent = client.request("POST", path, _asked(path, body), [("Origin", origin)], host=own)
            answer = _shared(listener, sent, origin)
            if answer is not None and answer.status < 300:
                message = f"Origin: {origin}: status {answer.status}, expected 403"
                listener.tried.add("foreign page let in", line(sent), message)
    answer = listener.send(client.request("POST", "/predict", body, [("Origin", f"http://{own}")], host=own))
    if answer is None or answer.status != 200:
        said = client.outcome(answer)
        listener.tried.add(
            "own page refused", "POST /predict", f"Origin: http://{own}, Host: {own}: {said}, expected 200"
        )


def foreign_origins(own: str) -> Iterator[str]:
    """Yield origins that are not that of our own page, however much they look like it."""
    host, _, port = own.partition(":")
    yield from ("https://other.example", "null", f"http://{own}.other.example", f"http://{host}.other.example")
    yield from (
        f"http://other.example:{port}",
        f"http://other-{own}",
        f"http://{own}@other.example",
        f"http://{host}:1",
    )
    yield from (f"http://localhost:{port}", f"http://{host}", "file://", f"https://other.example/{own}")


def allowed_origin(answer: Answer, origin: str) -> str | None:
    """Return what an answer allows a foreign origin, in words; None where it allows nothing."""
    allowed = answer.header("Access-Control-Allow-Origin")
    if allowed is None or (allowed != "*" and allowed.strip().lower() not in (origin.lower(), "null")):
        return None
    credentials = (answer.header("Access-Control-Allow-Credentials") or "").strip().lower() == "true"
    return f"Access-Control-Allow-Origin: {allowed}{', with credentials' if credentials else ''}"


def _shared(listener: Listener, sent: bytes, origin: str) -> Answer | None:
    answer = listener.send(sent)
    if answer is not None and (allowed := allowed_origin(answer, origin)):
        listener.tried.add("any origin", line(sent), f"Origin: {origin}: {allowed}")
    return answer


def _asked(path: str, body: bytes) -> bytes:
    return client.tensor_body(json.loads(body)["pixels"]) if path.startswith("/v2/") else body
