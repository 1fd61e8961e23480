"""W3C Trace Context: a well-formed ``traceparent`` is given back, so that whoever asked finds the answer again."""

from __future__ import annotations

import re

from starlette.requests import Request

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traced(request: Request) -> dict[str, str]:
    """Return the header to give back; nothing where there was none, several, or one that is not well-formed."""
    found = request.headers.getlist("traceparent")
    return {"traceparent": found[0]} if len(found) == 1 and _TRACEPARENT.fullmatch(found[0]) else {}
