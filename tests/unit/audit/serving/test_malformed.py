"""After each batch the server is looked at, and a finding names what it was asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from audit.errors import TargetError
from audit.serving import malformed
from audit.serving.bench import Tried
from audit.serving.client import Answer
from audit.serving.crafted import Crafted
from audit.serving.pictures import Batch
from tests.unit.audit.serving.conftest import serving_requirement

OK, REFUSED = Answer(200, (), b""), Answer(422, (), b"")
BATCH = Batch("PNG, grey, 16 bits", tuple(Crafted(f"picture {n}", b"POST / HTTP/1.1\r\n") for n in range(3)))


class Served:
    """A server that answers so many requests, and then ends or falls silent."""

    def __init__(self, enough, *, ends=True, status=422):
        self.left, self.ends, self.status = enough, ends, status
        self.child = SimpleNamespace(running=True, complaint="Segmentation fault")

    def patiently(self, sent, half_close=False):
        self.left -= 1
        if self.left < 0:
            self.child.running = not self.ends
        return Answer(self.status, (), b"") if self.left >= 0 else None

    def answers(self, body):
        return self.left >= 0


class Bench:
    """A bench with that server only."""

    subject, sample = SimpleNamespace(width=36), b"{}"

    def __init__(self, server):
        self.server = server

    def ordinary(self):
        return self

    def __enter__(self):
        return self.server

    def __exit__(self, *_):
        return None

    def without_paths(self, text):
        return text


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(malformed, "batches", lambda seed: [BATCH, BATCH])
    monkeypatch.setattr(malformed, "crafted", lambda *_: [Crafted("a family", b"GET / HTTP/1.1\r\n")] * 150)
    monkeypatch.setattr(malformed, "RECOVERY_SECONDS", 0.0)
    monkeypatch.setattr(malformed, "THREADS", 1)


def examined(server):
    return malformed.malformed(Bench(server), serving_requirement("malformed-input"))


def test_a_server_that_stays_is_asked_everything():
    tried = examined(Served(1000))
    assert (tried.n, tried.counts) == (156, {})
    assert tried.settings["requests"] == 156


@pytest.mark.parametrize(("ends", "rule"), [(True, "crashed"), (False, "does not answer")])
def test_a_server_that_is_lost_is_asked_no_further_and_the_request_is_named(ends, rule):
    tried = examined(Served(151, ends=ends))
    assert tried.counts == {rule: 1, "no answer": 2}
    assert tried.n == 153
    assert "picture 1; picture 2" in next(one.message for one in tried.findings if one.rule == rule)


def test_a_server_that_was_too_busy_was_not_tried():
    with pytest.raises(TargetError, match="too busy for 156 of 156"):
        examined(Served(1000, status=503))


def test_kinds_that_are_not_taken_are_told():
    first = Crafted(BATCH.kind, b"")
    batch = Batch(BATCH.kind, (Crafted("another", b""), first))
    assert malformed._taken(batch, [OK, REFUSED]) == {BATCH.kind: "422"}
    assert malformed._taken(batch, [OK, None]) == {BATCH.kind: "closed"}
    assert malformed._taken(BATCH, [OK] * 3) == {}


def test_a_batch_is_named_where_nobody_went_without_an_answer():
    tried, server = Tried(), Served(0, ends=True)
    server.child.running = False
    malformed._afterwards(tried, Bench(server), server, BATCH, [REFUSED] * 3)
    assert BATCH.kind in tried.findings[0].message
