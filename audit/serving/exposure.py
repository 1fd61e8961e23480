"""Exposure: security headers everywhere, no debug mode, no secret told, and no page, host or file that is not ours.

What this cannot see: files under names that it does not try, secrets that a server tells in a form of its own
(encrypted, cut into pieces), and what is told to browsers only after a script has run.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from audit.requirements import ExposureRequirement
from audit.serving import client, origins, planted
from audit.serving.bench import Bench, Tried, together
from audit.serving.client import Answer
from audit.serving.internals import leaks
from audit.serving.planted import Listener

PAGES = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/does-not-exist")
UNSAFE = ("'unsafe-inline'", "'unsafe-eval'", "'unsafe-hashes'", "*", "http:", "https:", "data:")
FILES = (
    "app.py", "__main__.py", "__init__.py", "server.py", "wsgi.py", "main.py", "audit_log.py", "settings.yaml",
    "tokens.json", "audit.jsonl", "weights.safetensors", ".env", ".git/config", ".git/HEAD", ".htaccess",
    "requirements.txt", "pyproject.toml", "Dockerfile", "__pycache__/", "model_under_test/serve/app.py",
    "backup.zip", "id_rsa",
)  # fmt: skip
CONSOLES = (
    "/console", "/debug", "/debug/", "/__debug__/", "/_debug", "/admin", "/actuator", "/actuator/env",
    "/server-status", "/phpinfo.php", "/graphql", "/_profiler", "/api/", "/docs", "/redoc", "/static/", "/static",
    "/static/.", "/static/css/", "/templates/", "/templates/index.html", "/logs/",
    "/?__debugger__=yes&cmd=resource&f=debugger.js", "/console?__debugger__=yes&cmd=printpin",
)  # fmt: skip
UPWARDS = (
    "../",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "..%5c",
    "....//",
    "%252e%252e%252f",
    "..;/",
    "%c0%ae%c0%ae/",
    "..%00/",
)
DEPTH = 12
INLINE = {
    "inline script": re.compile(r"<script(?![^>]*\bsrc=)[^>]*>", re.IGNORECASE),
    "inline style": re.compile(r"<style\b|<[^>]+\sstyle\s*=", re.IGNORECASE),
    "inline handler": re.compile(r"<[^>]+\son[a-z]+\s*=", re.IGNORECASE),
    "foreign content": re.compile(
        r"<(?:script|link|img|iframe)\b[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", re.IGNORECASE
    ),
}
SCOPED = re.compile(r"(?:src|href)\s*=\s*[\"'](/?[\w./-]+)[\"']", re.IGNORECASE)


def exposure(bench: Bench, requirement: ExposureRequirement) -> Tried:
    """Look at every page and its parts, then for what should not be there; debugging is asked for in the environment.

    Raises:
        TargetError: the server did not start, or no token was made.
    """
    in_open_mode, tokened = together((_in_open_mode, planted.with_tokens), 2, lambda part: part(bench))
    in_open_mode.n += tokened.n
    in_open_mode.take(tokened)
    in_open_mode.settings |= {"requests": in_open_mode.n, **tokened.settings}
    return in_open_mode


def _in_open_mode(bench: Bench) -> Tried:
    tried, canary = Tried(), secrets.token_hex(16)
    (bench.folder / "canary.txt").write_text(canary, encoding="utf-8")
    with bench.ordinary() as server:
        listener = Listener(server, tried, planted.places(bench))
        page = listener.get("/")
        text = "" if page is None else page.body.decode("utf-8", errors="replace")
        parts = sorted({f"/{found.lstrip('/')}" for found in SCOPED.findall(text)})
        for sent in _shown(bench, parts):
            _look(tried, sent, listener.send(sent))
        for name, pattern in INLINE.items():
            if found := pattern.search(text):
                tried.add(name, "/", f"the page has {found.group()[:80]!r}")
        probes = [*_hidden(bench, parts)]
        for path in probes:
            _is_hidden(listener, path, canary, page)
        _no_echo(listener)
        origins.hosts(listener, [*PAGES, *parts], bench.sample)
        origins.origins(listener, PAGES, bench.sample)
    tried.settings = {"pages": len(PAGES) + len(parts), "hidden_paths_tried": len(probes)}
    return tried


def _shown(bench: Bench, parts: list[str]) -> Iterator[bytes]:
    """Yield requests for pages, their parts, an answer, and errors of every kind."""
    for path in (*PAGES, *parts):
        yield client.request("GET", path)
    yield client.request("POST", "/predict", bench.sample)
    yield client.request("POST", "/predict", b"no JSON")
    yield client.request("POST", "/predict", b'{"pixels": [1]}')
    yield client.request("POST", "/predict", b"x", kind="text/html")
    yield client.request("GET", "/predict")
    yield client.request("DELETE", "/")


def _look(tried: Tried, sent: bytes, answer: Answer | None) -> None:
    """Hold one answer to the headers that every answer must have."""
    line = planted.line(sent)
    if answer is None:
        tried.add("no answer", line, "the connection was closed without an answer")
        return
    policy = (answer.header("Content-Security-Policy") or "").lower()
    rules = {words[0]: words[1:] for words in (part.split() for part in policy.split(";")) if words}
    default = rules.get("default-src", [])
    if default not in (["'none'"], ["'self'"]):
        tried.add("no strict CSP", line, f"expected default-src 'none' or 'self', got {policy[:120]!r}")
    loose = [f"{name} {source}" for name, sources in rules.items() for source in sources if source in UNSAFE]
    loose = [one for one in loose if one != "img-src data:"]  # a picture cannot run
    if loose:
        tried.add("loose CSP", line, f"allows {', '.join(loose)}")
    if rules.get("frame-ancestors") != ["'none'"] and (answer.header("X-Frame-Options") or "").upper() != "DENY":
        tried.add("may be framed", line, "neither frame-ancestors 'none' nor X-Frame-Options: DENY")
    if (answer.header("X-Content-Type-Options") or "").lower() != "nosniff":
        tried.add("may be sniffed", line, "X-Content-Type-Options is not nosniff")
    if (answer.header("Referrer-Policy") or "").lower() not in ("no-referrer", "same-origin", "strict-origin"):
        tried.add("tells referrers", line, f"Referrer-Policy is {answer.header('Referrer-Policy')!r}")
    if allowed := origins.allowed_origin(answer, "*"):
        tried.add("any origin", line, allowed)
    if not answer.request_id:
        tried.add("no request id", line, "no X-Request-Id")
    for kind, text in leaks(answer, sent)[:1]:
        tried.add("internals", line, f"status {answer.status} tells a {kind}: {text[:80]!r}")


def _hidden(bench: Bench, parts: list[str]) -> Iterator[str]:
    """Yield paths at which nothing may be."""
    yield from CONSOLES
    folders = sorted({"/", "/static/", *(f"{part.rpartition('/')[0]}/" for part in parts)})
    for folder in folders:
        yield from (f"{folder}{name}" for name in FILES)
    targets = ("etc/passwd", str(bench.folder / "canary.txt").lstrip("/"))
    for folder in folders:
        for target in targets:
            yield from (f"{folder}{up * DEPTH}{target}" for up in UPWARDS)
            yield from (f"{folder}/{target}", f"{folder}%2f{target}", f"/{folder}{target}", f"{folder}file:///{target}")
        yield from (f"{folder}{up}{name}" for up in UPWARDS[:4] for name in ("app.py", "__main__.py", "templates/"))
    yield f"//{targets[1]}"


def _is_hidden(listener: Listener, path: str, canary: str, page: Answer | None) -> None:
    """Ask for what should not be there; the start page, which ignores a query, is no find."""
    answer, tried = listener.get(path), listener.tried
    where = path if canary not in path else "/canary"
    where = where if len(where) < 80 else f"{where[:40]}...{where[-25:]}"
    if answer is None:
        return
    if canary.encode() in answer.body or b"root:x:0:" in answer.body:
        tried.add("path traversal", where, "a file outside what is served was read")
    elif answer.status == 200 and not (path.startswith("/?") and _kind(answer) == _kind(page)):
        tried.add("exposed", where, f"status 200, {len(answer.body)} bytes, where nothing should be")
    elif answer.status >= 500:
        tried.add("server error", where, f"status {answer.status}")


def _no_echo(listener: Listener) -> None:
    """Ask for an echo (TRACE), which gives scripts the headers that they may not see."""
    mark = secrets.token_hex(8)
    answer = listener.send(client.request("TRACE", "/", headers=[("X-Mark", mark)]))
    if answer is not None and (answer.status == 200 or mark.encode() in answer.body):
        listener.tried.add("echoes", "/", f"TRACE: status {answer.status}")


def _kind(answer: Answer | None) -> str | None:
    return None if answer is None else answer.header("Content-Type")
