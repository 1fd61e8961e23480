"""Weaknesses that the check ``access`` must find."""

from __future__ import annotations

from functools import partial

from benchmarks.catches.mutant import Mutant, Patch, weakness
from benchmarks.catches.mutants.tokens import BEGIN, HEADERS, NAMED, TOKENS

_COUNT = "self.service.rates.count(exchange.counted_as, cost)"
_COUNTED = "if endpoint.scope or guessed:"
_REFUSAL = "if exchange.token is None:\n            error = self._counted"
_PEER = 'counted_as=f"peer:{address_group(address)}",'
_MORE_IMAGES = "if len(images) > 1:\n                self._count(exchange, len(images) - 1)"
_weak = partial(weakness, "access")


def _keyed(name: str, key: str) -> Mutant:
    new = f"self.service.rates.count(exchange.counted_as + str({key}), cost)"
    return _weak("limit evaded", f"the rate is counted for each {name}", Patch("app.py", _COUNT, new))


_app = partial(Patch, "app.py")


_ONCE = """_SEEN: set[object] = set()


def _count_once(service: Service, exchange: Exchange, cost: int) -> None:
    if exchange.request.client not in _SEEN:
        _SEEN.add(exchange.request.client)
        service.rates.count(exchange.counted_as, cost)


def _begin("""


MUTANTS: tuple[Mutant, ...] = (
    # who is counted
    _weak(
        "limit evaded",
        "the rate of an address is that of X-Forwarded-For",
        _app(_PEER, 'counted_as=dict(scope["headers"]).get(b"x-forwarded-for", address.encode()).decode(),'),
    ),
    _keyed("User-Agent", f'{HEADERS}.get("user-agent")'),
    _keyed("Accept", f'{HEADERS}.get("accept")'),
    _keyed("cookie", f'{HEADERS}.get("cookie")'),
    _keyed("X-Tenant-Id", f'{HEADERS}.get("x-tenant-id")'),
    _keyed("set of headers", f"sorted({HEADERS}.items())"),
    _keyed("path", "exchange.request.url.path"),
    _keyed("query", "exchange.request.url.query"),
    _keyed("Host", f'{HEADERS}.get("host")'),
    _weak(
        "limit evaded",
        "a token has its rate from every address",
        _app(NAMED, NAMED.replace("name}", "name}:{exchange.client}")),
    ),
    _weak(
        "limit evaded",
        "the rate is counted for each header that nobody has heard of",
        _app(_COUNT, f'self.service.rates.count(exchange.counted_as + {HEADERS}.get("zq-91-k", ""), cost)'),
        missed="the name of the header is in no list, and nothing that the server says mentions it",
    ),
    # what is counted
    _weak(
        "no limit",
        "the rate is one of seconds, not of minutes",
        Patch(
            "limits.py",
            "from limits import RateLimitItemPerMinute",
            "from limits import RateLimitItemPerSecond as RateLimitItemPerMinute",
        ),
    ),
    _weak(
        "no limit",
        "the rate is counted, and nobody refused",
        Patch("limits.py", "if not self._counted.hit(self._limit, client, cost=cost):", "if False:"),
    ),
    _weak(
        "no limit",
        "the rate is counted once a connection",
        _app(_COUNT, "_count_once(self.service, exchange, cost)"),
        _app(BEGIN, _ONCE),
    ),
    _weak(
        "no limit",
        "only what is predicted is counted",
        _app(_COUNTED, "if exchange.token is None and (endpoint.scope or guessed):"),
        _app(_MORE_IMAGES, "self._count(exchange, len(images))"),
    ),
    _weak(
        "refusals not counted",
        "what a token may not ask is not counted",
        _app(
            _COUNTED,
            "if (endpoint.scope and (not exchange.token or endpoint.scope in exchange.token.scopes)) or guessed:",
        ),
    ),
    _weak(
        "refusals not counted",
        "a token is counted for predictions only",
        _app(_COUNTED, "if exchange.token is None and (endpoint.scope or guessed):"),
        _app(
            "body = await exchange.request.body()",
            "self._count(exchange)\n        body = await exchange.request.body()",
        ),
    ),
    _weak("batch costs one", "several images cost one request", _app(_MORE_IMAGES.partition("\n")[0], "if False:")),
    _weak(
        "batch costs one",
        "several images of the Open Inference Protocol cost one request",
        _app(_MORE_IMAGES.partition("\n")[0], 'if exchange.endpoint.name == "predict" and len(images) > 1:'),
    ),
    _weak(
        "no Retry-After",
        "who asks too often is not told when to try again",
        Patch("limits.py", 'slow down.", retry_after=again)', 'slow down.")'),
    ),
    _weak(
        "no Retry-After",
        "Retry-After is a fraction",
        Patch("problems.py", "str(max(1, math.ceil(retry_after)))", "str(retry_after)"),
    ),
    # guessing
    _weak(
        "guessing not limited",
        "failed authentication is not counted",
        _app(_COUNTED, "if endpoint.scope and (exchange.token or service.tokens is None):"),
        _app(_REFUSAL, _REFUSAL.replace("exchange.token", "self.service.tokens")),
    ),
    _weak(
        "guessing not limited",
        "failed authentication is counted for each token that was guessed",
        _app(_COUNT, f'self.service.rates.count(exchange.counted_as + {HEADERS}.get("authorization", ""), cost)'),
    ),
    _weak(
        "guessing not limited",
        "failed authentication is counted for each X-Forwarded-For",
        _app(
            _COUNT,
            "self.service.rates.count(exchange.counted_as if exchange.token or self.service.tokens is None else "
            f'{HEADERS}.get("x-forwarded-for", exchange.client), cost)',
        ),
    ),
    _weak(
        "guessing not limited",
        "failed authentication is counted for each address only",
        Patch("limits.py", 'if not self._counted.hit(self._failures, "failures"):', "if False:"),
    ),
    _weak(
        "guessing not limited",
        "failed authentication is not counted at /metrics",
        _app(_COUNTED, "if endpoint.recorded or (guessed and not endpoint.scope):"),
        _app(_REFUSAL, _REFUSAL.replace(":", " and exchange.endpoint and exchange.endpoint.recorded:", 1)),
    ),
    _weak(
        "guessing not limited",
        "failed authentication is not counted at /readyz",
        _app(_COUNTED, "if endpoint.scope:"),
        _app("if guessed and not endpoint.scope:", "if False:"),
    ),
    *TOKENS,
)
