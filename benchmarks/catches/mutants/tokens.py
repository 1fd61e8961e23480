"""Weaknesses in who is let in, and with which token, that the check ``access`` must find."""

from __future__ import annotations

from functools import partial

from benchmarks.catches.mutant import Mutant, Patch, weakness

HEADERS = "exchange.request.headers"
NAMED = 'exchange.client, exchange.counted_as = exchange.token.name, f"token:{exchange.token.name}"'
_FIND = 'service.tokens.tokens().find(given[0] if len(given) == 1 else "")'
_SCOPE = "if scope not in exchange.token.scopes:"
_COMPARED = "if hmac.compare_digest(entry.sha256, digest):"
_EXPIRED = "self.expires < (today or _today())"
_DIGEST = "return hashlib.sha256(token.encode()).hexdigest()"
BEGIN = "def _begin("
_weak = partial(weakness, "access")
_app = partial(Patch, "app.py")
_tokens = partial(Patch, "tokens.py")


_REMEMBERED = """_KNOWN: dict[object, Entry] = {}


def _remembered(exchange: Exchange, found: Entry | None) -> Entry | None:
    if found:
        _KNOWN[exchange.request.client] = found
    return _KNOWN.get(exchange.request.client)


def _begin("""

_AS_BYTES = """import base64

    padded = (token + "AAAA")[: len(token) // 4 * 4 + 4]
    return base64.urlsafe_b64decode(padded).hex()[:64].ljust(64, "0")"""

_ONLY_GOOD = """known = Tokens.model_validate_json(path.read_bytes())
        return Tokens(tokens=tuple(one for one in known.tokens if not one.expired()))"""

TOKENS: tuple[Mutant, ...] = (
    # who is let in
    _weak(
        "let in",
        "tokens live five years past their end",
        _tokens(_EXPIRED, f"self.expires.replace(year=self.expires.year + 5){_EXPIRED[12:]}"),
    ),
    _weak(
        "let in",
        "tokens live a week past their end",
        _tokens(_EXPIRED, "(self.expires - (today or _today())).days < -7"),
    ),
    Mutant(
        "last days are those of the server's own time zone",
        "access",
        ("let in", "refused"),
        (_tokens("return datetime.now(UTC).date()", "return date.today()"),),
    ),
    _weak("let in", "no scope is looked at", _app(_SCOPE, "if False:")),
    _weak("let in", "every token reads the figures", _app(_SCOPE, f'{_SCOPE[:-1]} and scope == "predict":')),
    _weak(
        "let in",
        "/v1/predict needs no token",
        Patch(
            "endpoints.py",
            '"/v1/predict": predict',
            '"/v1/predict": Endpoint("v1", partial(_predict, app), PREDICTING)',
        ),
    ),
    _weak(
        "let in",
        "the Open Inference Protocol needs no token",
        Patch(
            "openinference.py", "partial(_infer, app), PREDICTING, Scope.PREDICT)", "partial(_infer, app), PREDICTING)"
        ),
    ),
    _weak(
        "let in",
        "a token may stand in the query",
        _app(
            _FIND,
            f'{_FIND} or service.tokens.tokens().find("Bearer " + exchange.request.query_params.get("token", ""))',
        ),
    ),
    _weak(
        "let in",
        "the last of several Authorization headers counts",
        _app(_FIND, 'service.tokens.tokens().find(given[-1] if given else "")'),
    ),
    _weak(
        "let in",
        "a token may stand in X-Api-Key",
        _app(_FIND, f'{_FIND} or service.tokens.tokens().find("Bearer " + {HEADERS}.get("x-api-key", ""))'),
    ),
    _weak(
        "let in",
        "who says X-Internal needs no token",
        _app(_FIND, f'{_FIND} or (service.tokens.tokens().tokens[0] if "x-internal" in {HEADERS} else None)'),
    ),
    _weak(
        "let in",
        "the stored hash is taken for the token",
        _tokens(_COMPARED, "if entry.sha256 in (digest, given[1] if given else None):"),
    ),
    _weak("let in", "tokens are compared without case", _tokens(_DIGEST, _DIGEST.replace("encode", "lower().encode"))),
    _weak(
        "let in",
        "the first 32 characters of a token are enough",
        _tokens(_DIGEST, _DIGEST.replace("token.", "token[:32].")),
    ),
    _weak("let in", "any scheme will do", _tokens("(?i:bearer) +", "(?i:[a-z]+) +")),
    _weak(
        "revoked token let in",
        "the token file is read once",
        _tokens("LOOK_AGAIN_SECONDS = 1.0", "LOOK_AGAIN_SECONDS = 1e9"),
    ),
    _weak(
        "revoked token let in",
        "a connection keeps the token that it began with",
        _app(_FIND, f"_remembered(exchange, {_FIND})"),
        _app(BEGIN, _REMEMBERED),
    ),
    # who is not
    _weak("refused", "a token ends the day before its last", _tokens(_EXPIRED, _EXPIRED.replace("<", "<="))),
    _weak("refused", "all tokens of an address share its rate", _app(NAMED, "exchange.client = exchange.token.name")),
    _weak(
        "refused",
        "new tokens need a restart",
        _tokens(
            "self._tokens, self._stamp, self._reason = read(self._path), found, None",
            "left = [one for one in read(self._path).tokens if one in self._tokens.tokens]\n"
            "            self._tokens, self._stamp, self._reason = Tokens(tokens=tuple(left)), found, None",
        ),
    ),
    _weak(
        "another answer",
        "no token is answered like the wrong scope",
        _app('Problem(401, "unauthorised"', 'Problem(403, "unauthorised"'),
    ),
    _weak(
        "another answer",
        "the wrong scope is answered like no token",
        _app('Problem(403, "forbidden"', 'Problem(401, "forbidden"'),
    ),
    # what is kept
    _weak(
        "token stored in clear",
        "tokens are kept as their bytes, not as a hash",
        _tokens(_DIGEST, _AS_BYTES),
    ),
    _weak(
        "token stored in clear",
        "tokens are kept beside their hash",
        _tokens(
            "    expires: date | None = None\n\n    def",
            '    expires: date | None = None\n    hint: str = ""\n\n    def',
        ),
        _tokens("Entry(name=name, ", "Entry(name=name, hint=made, "),
    ),
    _weak(
        "let in",
        "hashes are compared by ==",
        _tokens(_COMPARED, "if entry.sha256 == digest:"),
        missed="the comparison is of hashes of random tokens: its time is far below the noise, and says nothing of use",
    ),
    _weak(
        "let in",
        "whether a token has expired is looked at when the file is read",
        _tokens(
            "return None if found is None or given is None or found.expired(today) else found",
            "return None if given is None else found",
        ),
        _tokens(
            "return Tokens.model_validate_json(path.read_bytes())",
            _ONLY_GOOD,
        ),
        missed="it takes a day to end while the server runs, and no check can wait for that",
    ),
)
