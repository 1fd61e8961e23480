"""Access: no request gets past the tokens, and none past the rate limit, whatever its headers say.

What this cannot see: a rate limit whose window is longer than the pauses of the check but shorter than a minute, a
client told apart by a header that has an unusual name and is mentioned nowhere, tokens compared in a time that tells
something, and a token that expires while the server runs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from audit.requirements import AccessRequirement
from audit.serving import client, disguises, rates
from audit.serving.bench import Bench, Server, Tried, together, until
from audit.serving.chance import Chance
from audit.serving.client import Answer, Header
from audit.serving.rates import INFER, PREDICT, V1

LONG_AGO, FAR = "2001-01-01", "2999-12-31"
PER_MINUTE = 1000  # requests, more than are asked about tokens
REFUSED = (400, 401, 403)
WITHIN = 5.0  # seconds in which a running server heeds what was changed in the file of tokens


@dataclass(frozen=True, slots=True)
class _Tokens:
    file: Path
    made: date
    predict: str
    other: str
    metrics: str
    expired: str
    yesterday: str
    today: str
    leaving: str

    @property
    def all(self) -> dict[str, str]:
        """Return the tokens by what they are for."""
        kinds = ("predict", "other", "metrics", "expired", "yesterday", "today", "leaving")
        return {kind: getattr(self, kind) for kind in kinds}


def access(bench: Bench, requirement: AccessRequirement) -> Tried:
    """Try every way in without a right, then to ask more often than is allowed, with tokens and in open mode.

    Raises:
        TargetError: the server did not start, or no token was made.
    """

    def tokened() -> list[Tried]:
        tokens, copied = _make(bench), bench.folder / "tokens-of-rates.json"
        shutil.copy2(tokens.file, copied)
        several = {"first": tokens.predict, "second": tokens.other, "metrics": tokens.metrics}
        several |= {"third": tokens.today, "fourth": tokens.leaving}
        parts: tuple[Callable[[], Tried], ...] = (
            lambda: _with_tokens(bench, tokens),
            lambda: rates.with_tokens(bench, copied, several),
        )
        return together(parts, 2, lambda one: one())

    def in_open_mode() -> list[Tried]:
        return [rates.in_open_mode(bench)]

    ways: tuple[Callable[[], list[Tried]], ...] = (tokened, in_open_mode)
    both = together(ways, 2, lambda one: one())
    tried, answered, not_tried = Tried(), dict[str, int](), list[str]()
    for part in (part for parts in both for part in parts):
        tried.n += part.n
        tried.take(part)
        answered |= part.settings.get("answered", {})
        not_tried += part.settings.get("not_tried", [])
    tried.settings = {
        "requests": tried.n,
        "rate_per_minute": {"a token": rates.LIMIT, "an address": rates.OPEN_LIMIT},
        "answered_before_limit": answered,
        **({"not_tried": not_tried} if not_tried else {}),
    }
    return tried


def _make(bench: Bench) -> _Tokens:
    file, today = bench.folder / "tokens.json", datetime.now(UTC).date()
    return _Tokens(
        file,
        today,
        bench.make_token(file, "first", "predict", FAR),
        bench.make_token(file, "second", "predict"),
        bench.make_token(file, "scraper", "metrics"),
        bench.make_token(file, "former", "predict", LONG_AGO),
        bench.make_token(file, "late", "predict", str(today - timedelta(days=1))),
        bench.make_token(file, "ending", "predict", str(today)),
        bench.make_token(file, "leaving", "predict"),
    )


def _with_tokens(bench: Bench, tokens: _Tokens) -> Tried:
    tried, settings = Tried(), {"rate_per_minute": PER_MINUTE}
    elsewhere = {"TZ": _elsewhere(datetime.now(UTC))}
    with bench.serving(settings, tokens=tokens.file, log="tokens.jsonl", environment=elsewhere) as server:
        _try_tokens(bench, server, tokens, tried)
        not_tried = _try_last_days(bench, server, tokens, tried)
        not_tried += _try_changes(bench, server, tokens, tried)
    tried.settings = {"not_tried": not_tried}
    return tried


def _elsewhere(now: datetime) -> str:
    """Return a time zone (POSIX) in which it is another day than in UTC: the last day of a token is one of UTC."""
    return "EAST-14" if now.hour >= 11 else "WEST+12"


def _try_tokens(bench: Bench, server: Server, tokens: _Tokens, tried: Tried) -> None:
    """Ask with every wrong token, and with the right ones."""
    stored = tokens.file.read_text(encoding="utf-8")
    for name, token in tokens.all.items():
        if form := _readable(token, stored):
            message = f"the token of the kind {name!r} can be read in the file of tokens ({form})"
            tried.add("token stored in clear", "tokens file", message)
    for what, headers, allowed in _questions(tokens, stored):
        _expect(tried, what, server.predict(bench.sample, headers), allowed)
    for what, path in _detours(tokens.predict):
        answer = server.send(client.request("POST", path, bench.sample))
        _expect(tried, what, answer, (400, 401, 403, 404, 405, 308, 301), path)
    bearer, scraper = f"Bearer {tokens.predict}", f"Bearer {tokens.metrics}"
    for path in (V1, INFER):  # what is not there is no way in
        for what, headers in (("no token", []), ("a token of another scope", [("Authorization", scraper)])):
            sent = client.request("POST", path, _body(bench, path), headers)
            _expect(tried, what, server.send(sent), (400, 401, 403, 404, 405), path)
    _expect(tried, "no token", server.get("/metrics"), (401,), "/metrics")
    _expect(tried, "a token of another scope", server.get("/metrics", [("Authorization", bearer)]), (403,), "/metrics")
    _expect(tried, "the right token", server.get("/metrics", [("Authorization", scraper)]), (200,), "/metrics")
    expired = [("Authorization", f"Bearer {tokens.expired}")]
    _expect(tried, "an expired token", server.get("/metrics", expired), (401,), "/metrics")
    _try_headers(bench, server, tried)


def _try_headers(bench: Bench, server: Server, tried: Tried) -> None:
    """Ask without a token, but with every header that might be believed."""
    chance = Chance(rates.SEED)
    claims: tuple[Callable[[], str], ...] = (lambda: "127.0.0.1", lambda: "1", lambda: "admin")
    for value in (*claims, disguises.values(chance)[1]):
        for headers in disguises.bundles(disguises.names(), value):
            tried.n += 1
            answer = server.predict(bench.sample, headers)
            if answer is not None and answer.status < 300:
                guilty = ", ".join(f"{name}: {claimed}" for name, claimed in headers)
                tried.add("let in", PREDICT, f"no token, but one of these headers: {guilty}"[:380])


def _try_last_days(bench: Bench, server: Server, tokens: _Tokens, tried: Tried) -> list[str]:
    """Ask with a token whose last day is today, and with one whose last day was yesterday."""
    yesterday, today = (
        server.predict(bench.sample, [("Authorization", f"Bearer {one}")]) for one in (tokens.yesterday, tokens.today)
    )
    if datetime.now(UTC).date() != tokens.made:
        return ["tokens on their last day: midnight passed meanwhile"]
    zone = f"(UTC; the server's clock has the time zone {_elsewhere(datetime.now(UTC))})"
    _expect(tried, f"a token whose last day was yesterday {zone}", yesterday, (401,))
    _expect(tried, f"a token on its last day {zone}", today, (200,))
    return []


def _try_changes(bench: Bench, server: Server, tokens: _Tokens, tried: Tried) -> list[str]:
    """Make a token while the server runs, and revoke one: both hold within seconds, on open connections too."""
    joined = [("Authorization", f"Bearer {bench.make_token(tokens.file, 'joined', 'predict')}")]
    in_time = _within(tried, lambda: server.predict(bench.sample, joined), 200)
    if in_time is None or in_time.status != 200:
        message = f"a token made {WITHIN:g} s ago, while the server ran: {client.outcome(in_time)}, expected 200"
        tried.add("refused", PREDICT, message)
    if not bench.subject.spec.revoke_token:
        return ["revoking a token: the policy names no command for it"]
    leaving = [("Authorization", f"Bearer {tokens.leaving}")]
    sent = client.request("POST", PREDICT, bench.sample, leaving, close=False)
    with client.kept(server.port) as ask:
        _expect(tried, "a token that is still good", ask(sent), (200,))
        bench.revoke_token(tokens.file, "leaving")
        answer = _within(tried, lambda: server.predict(bench.sample, leaving), 401)
        for how, last in (("", answer), (", over a connection that was open before", ask(sent))):
            if last is not None and last.status < 300:
                message = f"a token revoked {WITHIN:g} s ago{how}: {client.outcome(last)}, expected 401"
                tried.add("revoked token let in", PREDICT, message)
    good = server.predict(bench.sample, [("Authorization", f"Bearer {tokens.predict}")])
    _expect(tried, "the right token, after another one was revoked", good, (200,))
    return []


def _within(tried: Tried, ask: Callable[[], Answer | None], status: int) -> Answer | None:
    """Ask until an answer has a status, for some seconds; returns the last answer."""

    def counted() -> Answer | None:
        tried.n += 1
        return ask()

    return until(status, WITHIN, counted)


def _readable(token: str, stored: str) -> str | None:
    """Return in which form a token can be read in the file; None where it cannot."""
    forms = {"as it is": token, "in hexadecimal": token.encode().hex(), "backwards": token[::-1]}
    forms["in base64"] = base64.b64encode(token.encode()).decode().rstrip("=")
    with suppress(ValueError, binascii.Error):
        forms["its bytes in hexadecimal"] = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).hex()
    return next((form for form, text in forms.items() if len(text) >= 8 and text in stored), None)


def _body(bench: Bench, path: str) -> bytes:
    return client.tensor_body(json.loads(bench.sample)["pixels"]) if path == INFER else bench.sample


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
    digest = hashlib.sha256(good.encode())
    wrong += [
        digest.hexdigest(),
        base64.b64encode(digest.digest()).decode(),
        good.encode().hex(),
        good[:20],
        good[-20:],
    ]
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
        yield f"the right token in {name}, alone", [(name, good)], (401,)
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


def _expect(tried: Tried, what: str, answer: Answer | None, allowed: Sequence[int], where: str = PREDICT) -> None:
    tried.n += 1
    if answer is None and not set(allowed) & set(REFUSED):
        tried.add("refused", where, f"{what}: no answer, expected {_one_of(allowed)}")
    elif answer is not None and answer.status not in allowed:
        rule = "let in" if answer.status < 300 else "refused" if 200 in allowed else "another answer"
        tried.add(rule, where, f"{what}: {client.outcome(answer)}, expected {_one_of(allowed)}")


def _one_of(statuses: Sequence[int]) -> str:
    return " or ".join(map(str, statuses))
