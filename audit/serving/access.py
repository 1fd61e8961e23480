"""Access: no request gets past the tokens, and none past the rate limit, whatever its headers say."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.requirements import AccessRequirement
from audit.serving import client
from audit.serving.bench import Bench, Server, Tried, together
from audit.serving.client import Answer, Header

LONG_AGO, FAR = "2001-01-01", "2999-12-31"
PER_MINUTE, OPEN_PER_MINUTE = 150, 30
REFUSED = (400, 401, 403)
PREDICT = "/predict"


@dataclass(frozen=True, slots=True)
class _Tokens:
    file: Path
    predict: str
    other: str
    metrics: str
    expired: str


def access(bench: Bench, requirement: AccessRequirement) -> Tried:
    """Try every way in without a right, then to ask more often than is allowed, with tokens and in open mode.

    Raises:
        TargetError: the server did not start, or no token was made.
    """
    with_tokens, in_open_mode = together((_with_tokens, _in_open_mode), 2, lambda one: one(bench))
    tried = Tried()
    tried.n = with_tokens.n + in_open_mode.n
    tried.take(with_tokens)
    tried.take(in_open_mode)
    tried.settings = {
        "requests": tried.n,
        "rate_per_minute": {"a token": PER_MINUTE, "an address": OPEN_PER_MINUTE},
        "answered_before_limit": {**with_tokens.settings, **in_open_mode.settings},
    }
    return tried


def _with_tokens(bench: Bench) -> Tried:
    tried, tokens = Tried(), _make(bench)
    bearer, other = ([("Authorization", f"Bearer {token}")] for token in (tokens.predict, tokens.other))
    with bench.serving({"rate_per_minute": PER_MINUTE}, tokens=tokens.file, log="tokens.jsonl") as server:
        _try_tokens(bench, server, tokens, tried)
        tried.settings = {"a token": _try_rate(bench, server, tried, PER_MINUTE, bearer)}
        _expect(tried, "another token, beside one at its limit", server.predict(bench.sample, other), (200,))
    return tried


def _in_open_mode(bench: Bench) -> Tried:
    tried = Tried()
    with bench.serving({"rate_per_minute": OPEN_PER_MINUTE}, log="open.jsonl") as server:
        tried.settings = {"an address": _try_rate(bench, server, tried, OPEN_PER_MINUTE, [])}
    return tried


def _make(bench: Bench) -> _Tokens:
    file = bench.folder / "tokens.json"
    return _Tokens(
        file,
        bench.make_token(file, "first", "predict", FAR),
        bench.make_token(file, "second", "predict"),
        bench.make_token(file, "scraper", "metrics"),
        bench.make_token(file, "former", "predict", LONG_AGO),
    )


def _try_tokens(bench: Bench, server: Server, tokens: _Tokens, tried: Tried) -> None:
    """Ask with every wrong token, and with the right ones."""
    stored = tokens.file.read_text(encoding="utf-8")
    for name, token in (("predict", tokens.predict), ("metrics", tokens.metrics), ("expired", tokens.expired)):
        if token in stored:
            tried.add("token stored in clear", "tokens file", f"the {name} token can be read in the file of tokens")
    for what, headers, allowed in _questions(tokens, stored):
        _expect(tried, what, server.predict(bench.sample, headers), allowed)
    for what, path in _detours(tokens.predict):
        answer = server.send(client.request("POST", path, bench.sample))
        _expect(tried, what, answer, (400, 401, 403, 404, 405, 308, 301))
    bearer, scraper = f"Bearer {tokens.predict}", f"Bearer {tokens.metrics}"
    _expect(tried, "/metrics without a token", server.get("/metrics"), (401,))
    _expect(tried, "/metrics with another scope", server.get("/metrics", [("Authorization", bearer)]), (403,))
    _expect(tried, "/metrics with its token", server.get("/metrics", [("Authorization", scraper)]), (200,))


def _questions(tokens: _Tokens, stored: str) -> Iterator[tuple[str, Sequence[Header], Sequence[int]]]:
    """Yield what is tried, the headers, and the answers that are right."""
    good = tokens.predict
    yield "the right token", [("Authorization", f"Bearer {good}")], (200,)
    yield "no token", [], (401,)
    yield "an expired token", [("Authorization", f"Bearer {tokens.expired}")], (401,)
    yield "a token of another scope", [("Authorization", f"Bearer {tokens.metrics}")], (403,)
    wrong = ["", " ", "x", "null", "undefined", "*", "' OR 1=1 --", "{}", "\xff", good[:-1], good[1:], f"{good}x"]
    wrong += [good.swapcase(), good.lower(), good.upper(), good[::-1], f"{good[:8]} {good[8:]}", f"{good},{good}"]
    wrong += [f"{good}\x0b", f"\xa0{good}", f'"{good}"', "first", "e30.e30.", "A" * 4000, f"{good}\u00a0{good}"]
    wrong += sorted(set(re.findall(r"[A-Za-z0-9+/=_$:-]{16,}", stored)))[:12]  # what a thief of the file would have
    for token in wrong:
        yield f"a wrong token, {token[:12]!a}", [("Authorization", f"Bearer {token}")], REFUSED
    for scheme in ("", "Basic ", "Digest ", "Token ", "Bearer: ", "Bearer=", "BearerX ", "Bearer Bearer "):
        yield f"the right token as {scheme!r}", [("Authorization", f"{scheme}{good}")], REFUSED
    both = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {good}")]
    yield "two Authorization headers, the second right", both, REFUSED
    yield "two Authorization headers, the first right", both[::-1], REFUSED
    for name in ("X-Authorization", "Proxy-Authorization", "X-Api-Key", "X-Access-Token", "Cookie", "X-Forwarded-User"):
        yield f"the right token in {name}", [(name, f"Bearer {good}")], (401,)
    here = client.ADDRESS
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP", "X-Forwarded-Host", "X-Remote-User"):
        yield f"{name} instead of a token", [(name, f"for={here}" if name == "Forwarded" else here)], (401,)
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override"):
        yield f"{name} instead of a token", [(name, "GET" if name.endswith("Override") else "/healthz")], (401,)


def _detours(token: str) -> Iterator[tuple[str, str]]:
    """Yield other ways to the same page; none of them may do without a token in its header."""
    for path in ("/predict/", "//predict", "/./predict", "/Predict", "/predict%2f", "/predict;x", "/static/../predict"):
        yield f"no token, {path}", path
    for name in ("token", "access_token", "api_key", "authorization"):
        yield f"the right token as ?{name}=", f"{PREDICT}?{name}={token}"


def _expect(tried: Tried, what: str, answer: Answer | None, allowed: Sequence[int]) -> None:
    tried.n += 1
    if answer is None and not set(allowed) & set(REFUSED):
        tried.add("refused", PREDICT, f"{what}: no answer, expected {_one_of(allowed)}")
    elif answer is not None and answer.status not in allowed:
        rule = "let in" if answer.status < 300 else "refused" if 200 in allowed else "another answer"
        tried.add(rule, PREDICT, f"{what}: {_said(answer)}, expected {_one_of(allowed)}")


def _try_rate(bench: Bench, server: Server, tried: Tried, limit: int, headers: Sequence[Header]) -> int:
    """Ask until the limit is reached, then try to look like somebody else; returns how many were answered."""
    who = "a token" if headers else "an address"
    # a limit by fixed windows allows for twice as many where a window ends in between
    answered, last = _ask_until_limited(bench, server, tried, 2 * limit + 1, headers)
    if last is None or last.status != 429:
        tried.add("no limit", PREDICT, f"{who} had {answered} answers within seconds, allowed are {limit} a minute")
        return answered
    if not _whole(last.header("Retry-After")):
        tried.add("no Retry-After", PREDICT, f"429 without seconds in Retry-After: {last.header('Retry-After')!r}")
    for what, more in _disguises():
        for _ in range(2):  # a window may have ended just now: then the same once more
            answer = server.predict(bench.sample, [*headers, *more])
            tried.n += 1
            if answer is None or answer.status == 429:
                break
            _ask_until_limited(bench, server, tried, 2 * limit + 1, headers)
        else:
            tried.add("limit evaded", PREDICT, f"{who}, at its limit: {what}: {_said(answer)}")
    return answered


def _ask_until_limited(
    bench: Bench, server: Server, tried: Tried, most: int, headers: Sequence[Header]
) -> tuple[int, Answer | None]:
    answered, answer = 0, None
    for _ in range(most):
        answer = server.predict(bench.sample, headers)
        tried.n += 1
        if answer is not None and answer.status == 503:
            time.sleep(0.05)
        if answer is not None and answer.status == 429:
            break
        answered += answer is not None and answer.status == 200
    return answered, answer


def _disguises() -> Iterator[tuple[str, list[Header]]]:
    for name in ("X-Forwarded-For", "X-Real-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP"):
        for address in ("192.0.2.7", "127.0.0.2"):
            yield f"{name}: {address}", [(name, address)]
    yield "Forwarded", [("Forwarded", "for=192.0.2.8")]
    yield "X-Forwarded-For in a chain", [("X-Forwarded-For", "192.0.2.9, 127.0.0.1")]
    yield "X-Forwarded-For twice", [("X-Forwarded-For", "192.0.2.10"), ("X-Forwarded-For", "127.0.0.1")]
    yield "another User-Agent", [("User-Agent", "somebody else")]
    yield "another Host", [("X-Forwarded-Host", "elsewhere.example")]
    yield "a cookie", [("Cookie", "session=1")]


def _whole(value: str | None) -> bool:
    return value is not None and value.isdecimal() and int(value) > 0


def _said(answer: Answer | None) -> str:
    return "no answer" if answer is None else f"status {answer.status}"


def _one_of(statuses: Sequence[int]) -> str:
    return " or ".join(map(str, statuses))
