"""Weaknesses of headers, page and files, that the check ``exposure`` must find."""

from __future__ import annotations

from functools import partial

from benchmarks.catches.mutant import Mutant, Patch, weakness

CALL = 'response.headers.update({**HEADERS, "X-Request-Id": exchange.request_id, **traced(exchange.request)})'
START_PAGE = 'partial(_constant, page.encode(), "text/html")'
NO_PLACE = 'raise Problem(404, "not_found", "There is nothing at this address.")'
_weak = partial(weakness, "exposure")
_app = partial(Patch, "app.py")
_places = partial(Patch, "endpoints.py")
_header = partial(Patch, "problems.py")


def _in_page(tag: str) -> Patch:
    return _places(START_PAGE, f'partial(_constant, page.replace("</body>", {tag!r}).encode(), "text/html")')


_METHODS = "if exchange.request.method not in endpoint.methods:"
_SOURCES = """for file in sorted((_HERE / "static").iterdir())
        },
        **{
            f"/static/{file.name}": Endpoint("source", partial(_constant, file.read_bytes(), "text/plain"))
            for file in _HERE.glob("*.py")
        },"""
_READ = """from pathlib import Path

            file = Path(__file__).parent / "static" / exchange.request.url.path.removeprefix("/static/")
            if file.is_file():
                return Response(file.read_bytes())
            """
_DECODED = """from pathlib import Path
            from urllib.parse import unquote

            path = exchange.request.scope["raw_path"].decode()
            file = Path(__file__).parent / "static" / unquote(path.removeprefix("/static/"))
            if ".." not in path and file.is_file():
                return Response(file.read_bytes())
            """
_ZERO = """if "\\0" in exchange.request.scope["path"]:
                raise ValueError
            """
_LONGER = """if response.status_code == {}:
            response.headers["Content-Length"] = str(len(bytes(response.body)) + 1)"""
_TRACED = """if exchange.request.method == "TRACE":
            return Response(str(exchange.request.headers))
        """


def _without(when: str, *names: str) -> Patch:
    """Return the patch that leaves headers out of some answers."""
    gone = "".join(f'\n            del response.headers["{name}"]' for name in names)
    return _app(CALL, f"{CALL}\n        if {when}:{gone}")


PAGE: tuple[Mutant, ...] = (
    # headers
    _weak(
        "no strict CSP",
        "no policy for what the page may load",
        _header('"Content-Security-Policy": (', '"X-Policy": ('),
    ),
    _weak(
        "no strict CSP",
        "errors have no policy for what they may load",
        _without("response.status_code >= 400", "Content-Security-Policy"),
    ),
    _weak(
        "loose CSP", "inline scripts are allowed", _header("script-src 'self';", "script-src 'self' 'unsafe-inline';")
    ),
    _weak(
        "loose CSP", "scripts of every origin are allowed", _header("script-src 'self';", "script-src 'self' https:;")
    ),
    Mutant(
        "the page may be framed",
        "exposure",
        ("may be framed",),
        (_header("frame-ancestors 'none'", "frame-ancestors 'self'"), _header('"X-Frame-Options": "DENY",', "")),
    ),
    Mutant(
        "errors may be framed",
        "exposure",
        ("may be framed", "no strict CSP"),
        (_without("response.status_code == 404", "Content-Security-Policy", "X-Frame-Options"),),
    ),
    _weak("may be sniffed", "types may be guessed", _header('"X-Content-Type-Options": "nosniff",', "")),
    _weak(
        "may be sniffed",
        "types of the page's parts may be guessed",
        _without('name == "static"', "X-Content-Type-Options"),
    ),
    _weak(
        "tells referrers",
        "referrers are told in full",
        _header('"Referrer-Policy": "no-referrer",', '"Referrer-Policy": "unsafe-url",'),
    ),
    _weak("tells referrers", "nothing is said of referrers", _header('"Referrer-Policy": "no-referrer",', "")),
    _weak("no request id", "no answer has a request id", _app('"X-Request-Id": exchange.request_id, ', "")),
    _weak(
        "no request id",
        "refusals have no request id",
        _without("response.status_code >= 400", "X-Request-Id"),
    ),
    # the page
    _weak("inline script", "the page has a script of its own", _in_page("<script>let mode = 'draw';</script></body>")),
    _weak("inline script", "the page has a module of its own", _in_page("<SCRIPT type=module>start()</SCRIPT></body>")),
    _weak("inline style", "the page has a style of its own", _in_page("<style>p { color: red }</style></body>")),
    _weak("inline style", "a part of the page has a style of its own", _in_page("<p style=color:red>x</p></body>")),
    _weak(
        "inline handler",
        "a button has its script in an attribute",
        _in_page("<button onclick=send()>x</button></body>"),
    ),
    _weak(
        "inline handler", "a picture has its script in an attribute", _in_page("<img src=x onerror='send()'></body>")
    ),
    _weak(
        "foreign content",
        "the page has a script of a network for content",
        _in_page('<script src="https://cdn.example/x.js"></script></body>'),
    ),
    _weak(
        "foreign content",
        "the page has a style from elsewhere",
        _in_page('<link rel=stylesheet href="//cdn.example/x.css"></body>'),
    ),
    # the inside
    _weak(
        "internals",
        "answers say what the server is made of",
        _app(CALL, f'{CALL}\n        response.headers["Server"] = "uvicorn"'),
    ),
    _weak(
        "internals",
        "refusals say where they came from",
        _app('"There is nothing at this address."', 'f"There is nothing at this address ({__file__})."'),
    ),
    _weak(
        "exposed",
        "there is a console to debug with",
        _places(
            '"/healthz": Endpoint("healthz", _alive),',
            '"/healthz": Endpoint("healthz", _alive),\n        "/console": Endpoint("console", _alive),',
        ),
    ),
    _weak(
        "exposed",
        "the source of the page's folder is served",
        _places(
            'for file in sorted((_HERE / "static").iterdir())\n        },',
            _SOURCES,
        ),
    ),
    _weak(
        "path traversal",
        "what lies below /static/ is read by its name",
        _app(NO_PLACE, f"{_READ}{NO_PLACE}"),
    ),
    _weak(
        "path traversal",
        "names of files are decoded after they were looked at",
        _app(NO_PLACE, f"{_DECODED}{NO_PLACE}"),
    ),
    _weak(
        "server error",
        "an address that is none is a mistake of ours",
        _app(NO_PLACE, "raise KeyError(exchange.request.url.path)"),
    ),
    _weak(
        "server error",
        "an address with a zero in it is a mistake of ours",
        _app(NO_PLACE, f"{_ZERO}{NO_PLACE}"),
    ),
    _weak(
        "echoes",
        "TRACE is answered",
        _app(_METHODS, f"{_TRACED}{_METHODS}"),
    ),
    _weak(
        "echoes",
        "a method that is not taken is refused with the headers that came",
        _app('"This address does not take that method."', 'f"Not for this address: {dict(exchange.request.headers)}"'),
    ),
    _weak(
        "no answer",
        "refusals of a method are announced longer than they are",
        _app(CALL, f"{CALL}\n        {_LONGER.format(405)}"),
    ),
    _weak(
        "no answer",
        "refusals of an address are announced longer than they are",
        _app(CALL, f"{CALL}\n        {_LONGER.format(404)}"),
    ),
)
