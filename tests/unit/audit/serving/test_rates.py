"""A limit is one that holds; everything else is told with its figures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from audit.serving import access, rates
from audit.serving.bench import Tried
from audit.serving.client import Answer
from audit.serving.rates import Client

TOKEN = "-".join(("abcdEFGH", "0123_xyzw"))


class Counting:
    """A server that answers so often, and then 429; what it counts by is for the test to say."""

    port = 1

    def __init__(self, limit, key=lambda sent, source: "", retry="9", body=b"{}"):
        self.limit, self.key, self.retry, self.body, self.asked = limit, key, retry, body, {}

    def send(self, sent, *, source=None):
        key = self.key(sent, source)
        self.asked[key] = self.asked.get(key, 0) + 1
        if self.asked[key] > self.limit:
            return Answer(429, (("Retry-After", self.retry),) if self.retry else (), b"{}")
        return Answer(401 if b"Bearer" in sent and TOKEN.encode() not in sent else 200, (), self.body)

    def get(self, path, headers=()):
        return Answer(404, (), b"")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(rates, "PAUSE_SECONDS", 0.0)


def somebody(server, limit=8):
    return Client("somebody", limit, server, Tried(), b'{"pixels": [0.5]}', [("Authorization", f"Bearer {TOKEN}")])


@pytest.mark.parametrize("most", [8, 16])
def test_a_limit_that_holds_is_in_order(most):
    one = somebody(Counting(most))
    assert rates.reach(one) == (most, True)
    assert one.tried.counts == {}


def test_no_limit_is_told_with_the_number_of_answers():
    one = somebody(Counting(1000))
    assert rates.reach(one) == (17, False)
    assert "had 17 answers within seconds, allowed are 8 a minute" in one.tried.findings[0].message


def test_a_limit_that_is_forgotten_after_a_second_is_none():
    server = Counting(8)
    one = somebody(server)
    ask, server.send = server.send, lambda sent, source=None: forgetting(sent)

    def forgetting(sent):
        answer = ask(sent)
        if answer.status == 429:
            server.asked.clear()
        return answer

    assert rates.reach(one)[1] is False
    assert set(one.tried.counts) == {"no limit"}


@pytest.mark.parametrize("retry", [None, "soon", "0", "1.5"])
def test_who_asks_too_often_is_told_when_again(retry):
    one = somebody(Counting(8, retry=retry))
    rates.reach(one)
    assert set(one.tried.counts) == {"no Retry-After"}


def header(name):
    """Return what a request says in a header."""

    def key(sent, source):
        lines = sent.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")[1:]
        return ",".join(line for line in lines if line.lower().startswith(f"{name.lower()}:"))

    return key


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (header("User-Agent"), "User-Agent"),
        (header("X-Tenant-Id"), "X-Tenant-Id"),
        (header("Host"), "Host: localhost"),
        (lambda sent, source: source, "from the address 127.0.0.2"),
        (lambda sent, source: sent.split()[1], "as POST /v1/predict"),
    ],
)
def test_whoever_is_counted_by_what_they_say_is_found_out(key, named):
    one = somebody(Counting(8, key))
    rates.reach(one)
    rates._disguise(one, ["127.0.0.2"])
    assert set(one.tried.counts) == {"limit evaded"}
    assert any(named in finding.message for finding in one.tried.findings)


def test_a_limit_that_counts_clients_is_not_evaded():
    one = somebody(Counting(8))
    rates.reach(one)
    rates._disguise(one, ["127.0.0.2"])
    assert one.tried.counts == {}


@pytest.mark.parametrize(("cost", "expected"), [(8, {}), (1, {"batch costs one": 1})])
def test_several_images_cost_as_many_requests(cost, expected):
    one = somebody(Counting(8 // cost))
    assert rates._batches(one, "JSON", "/predict", b"{}") is None
    assert one.tried.counts == expected


def test_a_server_that_takes_one_image_at_a_time_is_not_accused():
    one = somebody(SimpleNamespace(send=lambda sent: Answer(422, (), b"")))
    assert rates._batches(one, "JSON", "/predict", b"{}") == "several images as JSON: status 422"
    assert one.tried.counts == {}


def guessing(key, limit=8, places=("/predict",)):
    """Return what is found where wrong tokens are counted by a key, at some places."""

    class Guessed(Counting):
        def send(self, sent, *, source=None):
            path = sent.split()[1].decode()
            if path not in ("/predict", "/metrics"):
                return Answer(404, (), b"")
            if TOKEN.encode() in sent:
                return Answer(200, (), b"{}")
            return super().send(sent, source=source) if path in places else Answer(401, (), b"{}")

        def get(self, path, headers=()):
            return self.send(b"GET %s" % path.encode() + b" " + TOKEN.encode())

    one = somebody(Guessed(limit, key))
    tried = one.tried
    rates._guess({"second": one, "metrics": one}, tried)
    return [(finding.path, finding.message) for finding in tried.findings]


def test_guesses_that_are_counted_are_in_order():
    assert guessing(lambda sent, source: "all", places=("/predict", "/metrics")) == []


@pytest.mark.parametrize(
    ("key", "places", "said"),
    [
        (header("Authorization"), ("/predict", "/metrics"), "17 wrong tokens from one address within seconds"),
        (lambda sent, source: "all", ("/predict",), "17 wrong tokens from one address within seconds"),
        (header("X-Real-IP"), ("/predict", "/metrics"), "goes on guessing tokens with other values of X-Real-IP"),
        (
            lambda sent, source: source,
            ("/predict", "/metrics"),
            "161 wrong tokens within 0 s, each from another address",
        ),
    ],
)
def test_guesses_that_are_not_counted_are_found(key, places, said):
    assert any(said in message for _, message in guessing(key, places=places))


@pytest.mark.parametrize(("hour", "zone", "local"), [(3, "WEST+12", -12), (10, "WEST+12", -12), (11, "EAST-14", 14)])
def test_the_server_lives_where_it_is_another_day(hour, zone, local):
    assert access._elsewhere(datetime(2026, 5, 4, hour, 30, tzinfo=UTC)) == zone
    assert not 0 <= hour + local < 24


@pytest.mark.parametrize(
    ("stored", "form"),
    [
        (TOKEN, "as it is"),
        (TOKEN.encode().hex(), "in hexadecimal"),
        (TOKEN[::-1], "backwards"),
        ("YWJjZEVGR0gtMDEyM194eXp3", "in base64"),
        ("5f" * 32, None),
    ],
)
def test_a_token_that_can_be_read_is_found_in_every_form(stored, form):
    assert access._readable(TOKEN, json.dumps({"a": stored})) == form


def test_without_a_command_nothing_is_revoked_and_that_is_said():
    server = SimpleNamespace(predict=lambda body, headers: Answer(200, (), b""))
    bench = SimpleNamespace(
        sample=b"{}",
        make_token=lambda *words: "made",
        subject=SimpleNamespace(spec=SimpleNamespace(revoke_token=())),
    )
    tried = Tried()
    said = access._try_changes(bench, server, SimpleNamespace(file=None), tried)
    assert said == ["revoking a token: the policy names no command for it"]
    assert tried.counts == {}
