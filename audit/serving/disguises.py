"""Headers by which a server might tell clients apart, or let somebody in, although whoever asks writes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from audit.serving.chance import Chance
from audit.serving.client import Header

AT_ONCE = 80  # headers of one request: servers take a hundred
LONGEST = 12  # characters of a value, so that all of them fit into eight kilobytes
MOST_FOUND_THERE = 200  # names that the server's own pages mention


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADDRESSES = _words(
    "X-Forwarded-For X-Forwarded X-Forwarded-By X-Forwarded-Client-IP X-Forwarded-User X-Forwarded-Host "
    "X-Forwarded-Server X-Forwarded-Port X-Forwarded-Email X-Forwarded-Preferred-Username X-Forwarded-Client-Cert "
    "Forwarded-For X-Real-IP X-Real-Client-IP X-Client-IP Client-IP True-Client-IP X-True-Client-IP X-True-IP "
    "CF-Connecting-IP CF-Connecting-IPv6 CF-Pseudo-IPv4 CF-Ray CF-IPCountry Fastly-Client-IP Fly-Client-IP "
    "X-Azure-ClientIP X-Azure-SocketIP X-AppEngine-User-IP X-Vercel-Forwarded-For X-NF-Client-Connection-IP "
    "DO-Connecting-IP X-Cluster-Client-IP X-Envoy-External-Address X-Originating-IP X-Original-Forwarded-For "
    "X-Original-Remote-Addr X-Original-Host X-Original-URL X-Rewrite-URL X-Remote-IP X-Remote-Addr X-Remote-User "
    "X-Remote-Host X-Host X-ProxyUser-Ip WL-Proxy-Client-IP Proxy-Client-IP HTTP_X_FORWARDED_FOR REMOTE_ADDR "
    "X-Custom-IP-Authorization X-Coming-From X-Gateway-IP X-Source-IP X-Peer-IP X-Backend-Host X-Sourcing-IP Via"
)
USUAL = _words(
    "User-Agent Accept-Language Cookie Referer From DNT Priority Pragma Cache-Control Max-Forwards Save-Data Date "
    "Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-GPC X-Requested-With X-Request-Id X-Correlation-Id X-Trace-Id "
    "X-B3-TraceId X-B3-SpanId traceparent tracestate baggage Request-Id Idempotency-Key X-Idempotency-Key "
    "Device-Memory X-Amzn-Trace-Id X-Cloud-Trace-Context X-CSRF-Token X-XSRF-Token X-Api-Key Api-Key ApiKey "
    "X-Auth-Token X-Auth-User X-Access-Token X-Amz-Security-Token X-Goog-Api-Key X-WWW-Authenticate "
    "Proxy-Authorization X-Authorization X-HTTP-Method-Override X-Method-Override X-Debug "
    "X-Test X-Bypass X-Whitelist X-Internal X-Health-Check X-No-Limit"
)
WHO = _words(
    "Client Tenant Customer User Account Session Device Consumer Caller Org Organization Team Project Workspace Shop "
    "Member Visitor App Application Service Partner Subscription Subject Principal Owner Group Realm Site Install"
)
WHAT = ("", "-Id", "-Key", "-Name", "-Token")
PROTOCOL = _words(
    "host connection keep-alive content-length transfer-encoding content-encoding content-type expect upgrade te "
    "trailer range origin authorization proxy-connection http2-settings accept-encoding accept accept-charset date "
    "x-content-type-options x-frame-options x-xss-protection x-powered-by x-dns-prefetch-control"
)
Said = Literal["limited", "answered", "other"]


def names(*pages: str) -> list[str]:
    """Return names of headers: known ones, ones made of usual words, and ones that the server's pages mention."""
    made = [f"{before}{who}{what}" for before in ("X-", "") for who in WHO for what in WHAT if before or what]
    mentioned = sorted({name for page in pages for name in re.findall(r"(?i)\bx-[a-z][a-z0-9-]{1,40}\b", page)})
    found = {name.lower(): name for name in [*ADDRESSES, *USUAL, *mentioned[:MOST_FOUND_THERE], *made]}
    return [name for lower, name in found.items() if lower not in PROTOCOL]


def bundles(found: Sequence[str], value: Callable[[], str]) -> Iterator[list[Header]]:
    """Yield headers, as many as a request may have, each with a value of its own."""
    for first in range(0, len(found), AT_ONCE):
        yield [(name, value()) for name in found[first : first + AT_ONCE]]


def values(chance: Chance) -> tuple[Callable[[], str], ...]:
    """Return what makes values: addresses, and words that nobody has used."""
    return (
        lambda: f"10.{chance.below(256)}.{chance.below(256)}.{chance.below(255, 1)}"[:LONGEST],
        lambda: f"{chance.digits(10)}",
    )


def special(chance: Chance) -> Iterator[tuple[str, list[Header]]]:
    """Yield headers whose value has a form of its own, or that come twice."""
    one, other = f"192.0.2.{chance.below(255, 1)}", f"198.51.100.{chance.below(255, 1)}"
    mark = f"{chance.digits(10)}"
    yield "Forwarded", [("Forwarded", f"for={one}")]
    yield "X-Forwarded-For in a chain", [("X-Forwarded-For", f"{one}, 127.0.0.1")]
    yield "X-Forwarded-For in a chain, the other way round", [("X-Forwarded-For", f"127.0.0.1, {one}")]
    yield "X-Forwarded-For twice", [("X-Forwarded-For", other), ("X-Forwarded-For", "127.0.0.1")]
    yield "X-Forwarded-For: 127.0.0.2", [("X-Forwarded-For", "127.0.0.2")]
    yield "another Accept", [("Accept", f"application/json, text/x-{mark}")]
    yield "another Accept-Charset", [("Accept-Charset", f"utf-8, x-{mark}")]
    yield "another User-Agent", [("User-Agent", f"Mozilla/5.0 (X11; Linux x86_64) {mark}")]
    yield "a cookie", [("Cookie", f"session={mark}; sessionid={mark}; sid={mark}; user={mark}; id={mark}")]
    yield "a header that nobody knows", [(f"X-{mark}", mark)]
    yield "twenty headers that nobody knows", [(f"{mark}-{number}", mark) for number in range(20)]


def responsible(headers: list[Header], ask: Callable[[Sequence[Header]], Said]) -> list[Header]:
    """Return the headers with which a request is answered although it should not be, as few as can be told; or none.

    What is refused for another reason (too many headers, a value that is none) is tried again by halves.
    """
    said = ask(headers)
    if said == "limited" or (len(headers) == 1 and said == "other"):
        return []
    if len(headers) > 1:
        middle = len(headers) // 2
        for half in (headers[:middle], headers[middle:]):
            if found := responsible(half, ask):
                return found
    return headers if said == "answered" else []
