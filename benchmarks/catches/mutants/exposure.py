"""Weaknesses that the check ``exposure`` must find."""

from __future__ import annotations

from functools import partial

from benchmarks.catches.mutant import Mutant, Patch, weakness
from benchmarks.catches.mutants.page import CALL, NO_PLACE, PAGE, START_PAGE

_DOCUMENT = 'partial(_constant, json.dumps(document).encode() + b"\\n", "application/json")'
_ALIVE = "async def _alive(exchange: Exchange) -> Response:"
_HOST = "if not all(host_allowed(host, self._limits.hosts) for host in (hosts[0], named or hosts[0])):"
_ALLOWED = (
    'return found is not None and found[1].decode("ascii").lower() in {*LOOPBACK, *(one.lower() for one in allowed)}'
)
_ORIGIN = 'if origin is not None and not same_origin(origin, exchange.request.headers["host"]):'
_SAME = 'return scheme in ("http", "https") and bool(separator) and authority.lower() == host.lower()'
_READY = "if service.tokens is None or (exchange.token and Scope.METRICS in exchange.token.scopes):"
_FIGURES = "return generate_latest(self._registry)"
_NOT_JSON = 'raise Problem(400, "not_json", "The body is not JSON.") from error'
_weak = partial(weakness, "exposure")
_app = partial(Patch, "app.py")
_places = partial(Patch, "endpoints.py")


def _linked(header: str) -> tuple[Patch, ...]:
    """Return patches that give the page a base address from a header."""
    made = (
        "async def _linked(page: str, exchange: Exchange) -> Response:\n"
        f'    named = exchange.request.headers.get("{header}", "127.0.0.1")\n'
        "    base = f'<head><base href=\"http://{named}/\">'\n"
        '    return Response(page.replace("<head>", base), media_type="text/html")\n\n\n'
    )
    return _places(START_PAGE, "partial(_linked, page)"), _places(_ALIVE, made + _ALIVE)


def _shared(value: str, *more: str) -> Patch:
    lines = [f'"Access-Control-Allow-Origin", {value}', *more]
    after = "\n        ".join(f"response.headers.__setitem__({one})" for one in lines)
    return _app(CALL, f"{CALL}\n        {after}")


def _redirected(target: str) -> Patch:
    code = (
        'if exchange.request.url.path.endswith("/") or "next" in exchange.request.query_params:\n'
        '                problem = Problem(308, "moved", "It is elsewhere.")\n'
        f'                problem.headers["Location"] = {target}\n'
        "                raise problem\n            "
    )
    return _app(NO_PLACE, code + NO_PLACE)


def _figure(value: str) -> Patch:
    return Patch(
        "metrics.py", _FIGURES, f'import os, sys\n\n        return {_FIGURES[7:]} + f"# {{{value}}}\\n".encode()'
    )


MUTANTS: tuple[Mutant, ...] = (
    # hosts
    _weak("echoes host", "the page has a base address made of Host", *_linked("host")),
    _weak("echoes host", "the page has a base address made of X-Forwarded-Host", *_linked("x-forwarded-host")),
    _weak(
        "echoes host",
        "the interface names the server by Host",
        _places(_DOCUMENT, "partial(_interface, document)"),
        _places(
            _ALIVE,
            "async def _interface(document: dict[str, Any], exchange: Exchange) -> Response:\n"
            '    return JSONResponse(document | {"servers": [{"url": str(exchange.request.base_url)}]})\n\n\n' + _ALIVE,
        ),
    ),
    _weak(
        "echoes host",
        "a path with a slash at its end is redirected to the host that was named",
        _redirected("f\"http://{exchange.request.headers['host']}{exchange.request.url.path[:-1]}\""),
    ),
    _weak("foreign host", "every host is served", Patch("connection.py", _HOST, "if False:")),
    _weak(
        "foreign host",
        "every host that begins like ours is served",
        Patch("hosts.py", _ALLOWED, 'return header.lower().startswith((b"127.0.0.1", b"localhost"))'),
    ),
    _weak(
        "foreign host",
        "the host in the target of a request is not looked at",
        Patch("connection.py", _HOST, "if not host_allowed(hosts[0], self._limits.hosts):"),
    ),
    _weak(
        "redirects elsewhere",
        "a path with a slash at its end is redirected, two slashes at its beginning included",
        _redirected("exchange.request.url.path.rstrip('/')"),
    ),
    _weak(
        "redirects elsewhere",
        "what is named as next is redirected to",
        _redirected('exchange.request.query_params.get("next", "/")'),
    ),
    # origins
    _weak("any origin", "every origin may read", _shared('"*"')),
    _weak(
        "any origin",
        "the origin that asks may read",
        _shared('exchange.request.headers.get("origin", "http://localhost")'),
    ),
    _weak(
        "any origin",
        "the origin that asks may read, with credentials",
        _shared(
            'exchange.request.headers.get("origin", "http://localhost")', '"Access-Control-Allow-Credentials", "true"'
        ),
    ),
    _weak("any origin", "the origin null may read", _shared('"null"')),
    _weak("foreign page let in", "pages of every origin may ask", _app(_ORIGIN, "if False:")),
    _weak(
        "foreign page let in",
        "pages without an origin (null) may ask",
        _app(_ORIGIN, _ORIGIN.replace("is not None", 'not in (None, "null")')),
    ),
    _weak(
        "foreign page let in",
        "pages whose origin begins like ours may ask",
        Patch("hosts.py", _SAME, "return authority.lower().startswith(host.lower())"),
    ),
    _weak(
        "foreign page let in",
        "pages of another port may ask",
        Patch("hosts.py", _SAME, 'return authority.rpartition(":")[0] == host.rpartition(":")[0]'),
    ),
    _weak("own page refused", "every page is refused", _app(_ORIGIN, "if origin is not None:")),
    _weak(
        "own page refused",
        "our own page is taken for another's for its port",
        Patch("hosts.py", _SAME, _SAME.replace("host.lower()", 'host.partition(":")[0].lower()')),
    ),
    # secrets
    _weak("secret told", "the environment is among the figures", _figure("dict(os.environ)")),
    _weak("secret told", "the command line is among the figures", _figure("sys.argv")),
    _weak(
        "secret told",
        "the figures are told by token",
        _app(
            "self.service.metrics.requests.labels(name, ",
            'self.service.metrics.requests.labels(exchange.request.headers.get("authorization", name), ',
        ),
    ),
    _weak(
        "secret told",
        "the figures are told by the hash of a token",
        _app(
            "self.service.metrics.requests.labels(name, ",
            "self.service.metrics.requests.labels(exchange.token.sha256 if exchange.token else name, ",
        ),
    ),
    _weak(
        "secret told",
        "what is no JSON is quoted in the refusal",
        Patch(
            "pixels.py",
            _NOT_JSON,
            _NOT_JSON.replace('"The body is not JSON."', 'f"The body is not JSON: {text[:200]}"'),
        ),
    ),
    _weak(
        "secret told",
        "the last body is kept, and told by /healthz",
        _app(
            "exchange.input_sha256 = hashlib",
            "LAST.append(body[-3000:].decode(errors='replace'))\n        exchange.input_sha256 = hashlib",
        ),
        _app("def _begin(", "LAST: list[str] = []\n\n\ndef _begin("),
        _places(
            'return JSONResponse({"alive": True})',
            'from model_under_test.serve import app\n\n    return JSONResponse({"last": app.LAST[-10:]})',
        ),
    ),
    _weak(
        "secret told",
        "a wrong token is quoted in the refusal",
        _app(
            '"Expected a valid token: Authorization: Bearer TOKEN."',
            "f\"Not a token: {exchange.request.headers.get('authorization')}\"",
        ),
    ),
    # readiness
    _weak("readiness tells", "readiness is told to everybody in full", _places(_READY, "if True:")),
    _weak(
        "readiness tells",
        "readiness is told in full to every token",
        _places(_READY, "if service.tokens is None or exchange.token:"),
    ),
    _weak(
        "readiness tells",
        "everybody is told how many records there are",
        _places(
            'said: dict[str, Any] = {"ready": not reasons}',
            'said: dict[str, Any] = {"ready": not reasons, "records": service.log.end.seq}',
        ),
    ),
    _weak(
        "readiness tells",
        "everybody is told why the server is not ready",
        _places(
            'said: dict[str, Any] = {"ready": not reasons}',
            'said: dict[str, Any] = {"ready": not reasons, "reasons": reasons}',
        ),
    ),
    _weak(
        "secret told",
        "everybody is told the last hash of the log",
        _places(
            "return JSONResponse(said, 503 if reasons else 200)",
            'return JSONResponse(said | {"log": service.log.end.hash}, 503 if reasons else 200)',
        ),
    ),
    *PAGE,
)
