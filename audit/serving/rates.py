"""The rate limit: it counts clients, not what they say of themselves, and guesses of tokens like everything else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audit.serving import client, disguises
from audit.serving.bench import Bench, Server, Tried
from audit.serving.chance import Chance
from audit.serving.client import Answer, Header
from audit.serving.disguises import Said

PREDICT = "/predict"
V1, INFER = "/v1/predict", "/v2/models/digits/infer"
LIMIT, OPEN_LIMIT = 8, 16
FAILURES = 10  # times one client's rate: failed authentications of all addresses together
WINDOW = 60.0  # seconds
PAUSES, PAUSE_SECONDS = 2, 1.2
SEED = 20

Ask = Callable[..., Answer | None]


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who asks about one image, and has so many answers a minute."""

    who: str
    limit: int
    server: Server
    tried: Tried
    body: bytes
    headers: Sequence[Header] = ()

    def ask(self, more: Sequence[Header] = (), *, path: str = PREDICT, source: str | None = None) -> Answer | None:
        """Ask once, with more headers, at another address, or from another one."""
        self.tried.n += 1
        sent = client.request("POST", path, self.body, [*self.headers, *more])
        return self.server.send(sent, source=source)

    @property
    def most(self) -> int:
        """Return how many answers there may be within seconds: fixed windows give twice the limit where one ends."""
        return 2 * self.limit

    def until_limited(self, ask: Callable[[], Answer | None] | None = None) -> tuple[int, Answer | None]:
        """Ask until 429, but not for ever; returns how many were answered, and the last answer."""
        answered, answer = 0, None
        for _ in range(self.most + 1):
            answer = (ask or self.ask)()
            if answer is not None and answer.status == 503:
                time.sleep(0.05)
            if is_limited(answer):
                break
            answered += answer is not None and answer.status == 200
        return answered, answer

    def said(self, ask: Callable[[], Answer | None]) -> Said:
        """Tell whether a request got past the limit; where a window may have ended just now, it is asked again."""
        for _ in range(2):
            answer = ask()
            if answer is None or answer.status == 429:
                return "limited"
            if answer.status != 200:
                return "other"
            self.until_limited()
        return "answered"


def is_limited(answer: Answer | None) -> bool:
    """Tell whether this is a refusal of somebody who asked too often."""
    return answer is not None and answer.status == 429


def in_open_mode(bench: Bench) -> Tried:
    """Ask more often than an address may, then look like somebody else."""
    tried = Tried()
    with bench.serving({"rate_per_minute": OPEN_LIMIT}, log="open.jsonl") as server:
        somebody = Client("an address", OPEN_LIMIT, server, tried, bench.sample)
        answered, holds = reach(somebody)
        tried.settings = {"answered": {"an address": answered}}
        if holds:
            _disguise(somebody, ())
    return tried


def with_tokens(bench: Bench, file: Path, tokens: dict[str, str]) -> Tried:
    """Ask more often than a token may, in every way that might not be counted; then guess tokens.

    Args:
        bench: starts the server.
        file: of the tokens.
        tokens: by name: ``first`` to ``fourth`` for predictions, ``metrics`` for figures.
    """
    tried = Tried()
    with bench.serving({"rate_per_minute": LIMIT}, tokens=file, log="rates.jsonl") as server:
        several = {
            name: Client("a token", LIMIT, server, tried, bench.sample, [("Authorization", f"Bearer {token}")])
            for name, token in tokens.items()
        }
        answered, holds = reach(several["first"])
        sources = [one for one in ("127.0.0.2", "127.5.6.7", "127.200.3.4") if client.can_ask_from(one)]
        if holds:
            _disguise(several["first"], sources)
        pixels = json.loads(bench.sample)["pixels"]
        images = json.dumps({"images": [pixels] * LIMIT}).encode()
        taken = [
            _batches(several["third"], "JSON", PREDICT, images),
            _batches(several["fourth"], "tensor", INFER, client.tensor_body(pixels, LIMIT)),
        ]
        _guess(several, tried)
        _over_one_connection(several["second"])
        _refused_ones(several["metrics"])
    tried.settings = {"answered": {"a token": answered}, "not_tried": [one for one in taken if one]}
    if not sources:
        tried.settings["not_tried"].append("asking from several addresses: this machine has one loopback address")
    return tried


def reach(one: Client) -> tuple[int, bool]:
    """Ask until the limit is reached, and soon after again; returns the answers, and whether there is a limit."""
    begun = time.monotonic()
    answered, last = one.until_limited()
    if not is_limited(last):
        said = f"{one.who} had {answered} answers within seconds, allowed are {one.limit} a minute"
        one.tried.add("no limit", PREDICT, f"{said}; the last one: {client.outcome(last)}")
        return answered, False
    again = None if last is None else last.header("Retry-After")
    if again is None or not again.isdecimal() or int(again) == 0:
        one.tried.add("no Retry-After", PREDICT, f"429 without seconds in Retry-After: {again!r}")
    for _ in range(PAUSES):
        time.sleep(PAUSE_SECONDS)
        answered += one.until_limited()[0]
    seconds = time.monotonic() - begun
    if answered > one.most and seconds < WINDOW:
        said = f"{one.who} had {answered} answers within {seconds:.0f} s with pauses of {PAUSE_SECONDS} s"
        one.tried.add("no limit", PREDICT, f"{said}, allowed are {one.limit} a minute")
        return answered, False
    return answered, True


def _disguise(one: Client, sources: Sequence[str]) -> None:
    """At the limit, look like somebody else: by every header that there is, other addresses, ports and hosts."""
    chance = Chance(SEED)

    def found(what: str) -> None:
        said = f"{one.who}, at its limit of {one.limit} a minute: {what}: status 200, twice"
        one.tried.add("limit evaded", PREDICT, said)

    for what, headers in disguises.special(chance):
        if one.said(partial(one.ask, headers)) == "answered":
            found(f"{what} ({'; '.join(map(': '.join, headers))[:120]})")
    for what, ask in _places(one, sources, chance):
        if one.said(ask) == "answered":
            found(what)
    pages = [page.text for page in (one.server.get(path) for path in ("/", "/openapi.json")) if page]
    for value in disguises.values(chance):

        def said(some: Sequence[Header], value: Callable[[], str] = value) -> Said:
            # values that were not used before: a client that they make has its own limit, which the search would reach
            return one.said(partial(one.ask, [(name, value()) for name, _ in some]))

        for headers in disguises.bundles(disguises.names(*pages), value):
            if guilty := disguises.responsible(headers, said):
                more = f" and {len(guilty) - 4} more headers" if len(guilty) > 4 else ""
                found(f"other values of {', '.join(name for name, _ in guilty[:4])}{more}")


def _places(one: Client, sources: Sequence[str], chance: Chance) -> Iterator[tuple[str, Callable[[], Answer | None]]]:
    """Yield other ways to ask the same."""
    for path in (V1, f"{PREDICT}?user={chance.digits(10)}", f"{V1}?{chance.digits(10)}"):
        yield f"as POST {path}", partial(one.ask, path=path)
    for source in sources:
        yield f"from the address {source}", partial(one.ask, source=source)
    for host in ("localhost", f"127.0.0.1:{one.server.port}", "localhost:8080"):
        sent = client.request("POST", PREDICT, one.body, one.headers, host=host)
        yield f"Host: {host}", partial(one.server.send, sent)
    kind = f"application/json; charset=utf-8; x={chance.digits(10)}"
    sent = client.request("POST", PREDICT, one.body, one.headers, kind=kind)
    yield f"Content-Type: {kind}", partial(one.server.send, sent)


def _batches(one: Client, name: str, path: str, body: bytes) -> str | None:
    """Ask about several images at once; each has to cost as much as a request. Returns why it was not tried."""
    sent, images, answer = client.request("POST", path, body, one.headers), 0, None
    for _ in range(3):
        one.tried.n += 1
        answer = one.server.send(sent)
        if answer is None or answer.status != 200:
            break
        images += one.limit
    if images > one.most:
        said = f"{one.who} had {images} images predicted within seconds, {one.limit} in a request ({name})"
        one.tried.add("batch costs one", path, f"{said}; allowed are {one.limit} a minute")
    return None if images or is_limited(answer) else f"several images as {name}: {client.outcome(answer)}"


def _over_one_connection(one: Client) -> None:
    """Ask what is malformed, over a connection that is kept: each request counts, and not only the first."""
    sent, answer = client.request("POST", PREDICT, b"{}", one.headers, close=False), None
    with client.kept(one.server.port) as ask:
        for _ in range(one.most + 1):
            one.tried.n += 1
            answer = ask(sent) or one.server.send(sent)  # who refuses may also close
            if answer is None or is_limited(answer):
                return
    said = (
        f"{one.most + 1} malformed requests of {one.who} over one connection within seconds: {client.outcome(answer)}"
    )
    one.tried.add("no limit", PREDICT, f"{said}, allowed are {one.limit} a minute")


def _refused_ones(one: Client) -> None:
    """Ask what is refused; it has to be counted all the same. The token is one for figures only."""
    _, last = one.until_limited()
    if not is_limited(last):
        said = f"{one.most + 1} requests with a token of another scope within seconds: {client.outcome(last)}"
        one.tried.add("refusals not counted", PREDICT, f"{said}, allowed are {one.limit} a minute")


def _guess(several: dict[str, Client], tried: Tried) -> None:
    """Guess tokens: from one address, at every place that knows them, under other names, from many addresses."""
    visitor, chance = several["second"], Chance(SEED)
    token = visitor.headers[0][1].rpartition(" ")[2]

    def guess(more: Sequence[Header] = (), path: str = PREDICT, source: str | None = None) -> Answer | None:
        tried.n += 1
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        wrong = "".join(chance.among(letters) if letter.isalnum() else letter for letter in token)
        method, body = ("GET", None) if path in ("/metrics", "/readyz") else ("POST", visitor.body)
        headers = [("Authorization", f"Bearer {wrong}"), *more]
        return visitor.server.send(client.request(method, path, body, headers), source=source)

    for path in (PREDICT, V1, INFER, "/metrics", "/readyz"):
        if _knows_tokens(several, path, guess(path=path)):
            last = next((one for one in (guess(path=path) for _ in range(visitor.most + 1)) if is_limited(one)), None)
            if last is None:
                said = f"{visitor.most + 1} wrong tokens from one address within seconds, and none was answered 429"
                tried.add("guessing not limited", path, f"{said}; allowed are {visitor.limit} a minute")
    if tried.counts.get("guessing not limited"):
        return
    _guess_disguised(visitor, chance, guess)
    _expect_visitor(visitor, "an address at the limit of its guesses")
    _from_everywhere(visitor, chance, guess)


def _guess_disguised(visitor: Client, chance: Chance, guess: Ask) -> None:
    """Go on guessing with other headers each time, from an address that has reached its limit."""
    for value in disguises.values(chance):

        def said(some: Sequence[Header], value: Callable[[], str] = value) -> Said:
            for _ in range(visitor.most + 1):  # a window may have ended: fewer prove nothing
                answer = guess([(name, value()) for name, _ in some])
                if answer is None or is_limited(answer):
                    return "limited"
            return "answered"

        for headers in disguises.bundles(disguises.names(), value):
            if guilty := disguises.responsible(headers, said):
                names = ", ".join(name for name, _ in guilty[:4])
                message = f"an address at its limit goes on guessing tokens with other values of {names}"
                visitor.tried.add("guessing not limited", PREDICT, message)


def _knows_tokens(several: dict[str, Client], path: str, guessed: Answer | None) -> bool:
    """Tell whether an address says another thing to who has a token than to who has guessed one."""
    if path in ("/metrics", "/readyz"):
        right = several["metrics"].server.get(path, several["metrics"].headers)
    else:
        right = several["second"].ask(path=path)
    if right is None or guessed is None or right.status == 404:
        return False
    return is_limited(guessed) or right.status != guessed.status or set(right.json) != set(guessed.json)


def _expect_visitor(visitor: Client, where: str) -> None:
    answer = visitor.ask()
    if answer is None or answer.status != 200:
        visitor.tried.add("refused", PREDICT, f"the right token, from {where}: {client.outcome(answer)}, expected 200")


def _from_everywhere(visitor: Client, chance: Chance, guess: Ask) -> None:
    """Guess from one address after the other, each of them once."""
    most = 2 * FAILURES * visitor.limit + 1
    numbers = chance.distinct(most, 2**16, 2**24 - 1)
    sources = [f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in numbers]
    if not all(map(client.can_ask_from, sources[:3])):
        return
    begun = time.monotonic()
    if not any(is_limited(guess(source=source)) for source in sources):
        seconds = time.monotonic() - begun
        said = f"{most} wrong tokens within {seconds:.0f} s, each from another address, and none was answered 429"
        allowed = f"allowed are {FAILURES} times a client's {visitor.limit} a minute"
        if seconds < WINDOW:
            visitor.tried.add("guessing not limited", PREDICT, f"{said}; {allowed}")
    _expect_visitor(visitor, "amid guesses from many addresses")
