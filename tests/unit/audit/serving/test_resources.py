"""What the check of resources makes of single answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from audit.serving import ordinary, resources
from audit.serving.bench import BODY_BYTES, Tried
from audit.serving.burdens import Burden, burdens
from audit.serving.client import Answer
from audit.serving.ordinary import Waits
from audit.serving.streaming import Streamed

WAITS = SimpleNamespace(ask=lambda when: None)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(ordinary, "AGAIN_SECONDS", 0.0)


def answer(status):
    return None if status is None else Answer(status, (), b"")


def server(status=None):
    said = answer(status)
    return SimpleNamespace(
        port=1, child=SimpleNamespace(pid=1), send=lambda *_, **__: said, predict=lambda *_, **__: said
    )


@pytest.mark.parametrize(
    ("sent", "rules"),
    [
        (Streamed(70_000, answer(413), cut=False), set()),
        (Streamed(0, answer(411), cut=False), set()),
        (Streamed(70_000, None, cut=True), set()),
        (Streamed(2**24, answer(503), cut=False), {"not refused"}),
        (Streamed(2**24, answer(200), cut=False), {"not refused"}),
        (Streamed(2**24, None, cut=False), {"not cut off"}),
    ],
)
def test_an_endless_body_is_refused_for_its_size_or_cut(monkeypatch, sent, rules):
    monkeypatch.setattr(resources, "stream", lambda *_: sent)
    tried = Tried()
    resources._endless(server(), tried)
    assert set(tried.counts) == rules


@pytest.mark.parametrize(
    ("status", "seconds", "rules"),
    [
        (413, (1.0, 1.5), set()),
        (None, (1.0, 1.5), set()),
        (413, (None, None), set()),
        (200, (1.0, 1.5), {"not refused"}),
        (413, (1.0, 3.5), {"too much work"}),
    ],
)
def test_a_burden_is_refused_and_costs_little(monkeypatch, status, seconds, rules):
    told = iter(seconds)
    monkeypatch.setattr(resources, "Usage", lambda pid: SimpleNamespace(seconds=lambda: next(told)))
    tried = Tried()
    resources._refuses(server(status), Burden("much", b"x", (413,)), tried, WAITS)
    assert set(tried.counts) == rules


@pytest.mark.parametrize(("status", "rules"), [(200, set()), (503, {"others wait"}), (None, {"others wait"})])
def test_an_ordinary_question_is_answered_meanwhile(status, rules):
    tried = Tried()
    waits = Waits(SimpleNamespace(sample=b"{}"), server(status), tried)
    waits.ask("beside an attack")
    assert set(tried.counts) == rules
    assert len(waits.seconds) == 1


def test_who_is_turned_away_asks_once_more():
    said = iter([None, answer(200)])
    tried = Tried()
    turning_away = SimpleNamespace(predict=lambda *_, **__: next(said))
    Waits(SimpleNamespace(sample=b"{}"), turning_away, tried).ask("beside an attack")
    assert tried.counts == {}


def test_a_body_of_one_byte_chunks_is_a_good_question_otherwise():
    last = list(burdens(784))[-1]
    chunks = last.sent.partition(b"\r\n\r\n")[2].split(b"\r\n")
    body = b"".join(chunks[1:-3:2])
    assert Answer(200, (), body).json == {"pixels": [0] * 784}
    assert len(body) < BODY_BYTES
