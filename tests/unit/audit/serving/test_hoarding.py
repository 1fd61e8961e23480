"""What a server kept is judged by stated limits, and nothing is said where nobody tells."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from audit.serving import client, hoarding
from audit.serving.bench import Tried
from audit.serving.hoarding import LEAKED, MORE_MEMORY, _judge_flood, _open, _refusable, _Scene

MB = 10**6


def scene(peak, rest):
    usage = SimpleNamespace(peak=lambda: peak, forget_peak=lambda: None)
    return _Scene(None, usage, Tried(), None, rest)


@pytest.mark.parametrize(
    ("peak", "rest", "grown", "rules"),
    [
        (100 * MB + MORE_MEMORY, 100 * MB, MORE_MEMORY, set()),
        (100 * MB + MORE_MEMORY + 1, 100 * MB, MORE_MEMORY + 1, {"too much memory"}),
        (None, 100 * MB, None, set()),
        (9 * MORE_MEMORY, None, None, set()),
    ],
)
def test_memory_beyond_the_limit_is_found(peak, rest, grown, rules):
    made = scene(peak, rest)
    assert made.remembers("an attack") == grown
    assert set(made.tried.counts) == rules


@pytest.mark.parametrize(
    ("a_day", "leaked", "rules"),
    [
        (99 * MB, 0, set()),
        (101 * MB, 0, {"log grows"}),
        (MB, LEAKED + 1, {"too much memory"}),
        (MB, None, set()),
    ],
)
def test_a_flood_may_leave_so_much(a_day, leaked, rules):
    tried = Tried()
    _judge_flood(tried, 500, a_day, leaked)
    assert set(tried.counts) == rules
    assert all("500 refusals" in one.message for one in tried.findings)


def test_only_connections_that_the_server_holds_are_open(monkeypatch):
    monkeypatch.setattr(hoarding.time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        theirs = [listener.accept()[0] for _ in ours]
        theirs[0].close()
        ours[0].sendall(b"x")  # to what was closed: the reset is here before the look
        assert _open(ours) == 2
        for one in (*ours, *theirs):
            one.close()


def test_no_refusable_request_is_a_good_question():
    for one in _refusable():
        head, _, body = one.partition(b"\r\n\r\n")
        assert head.startswith(b"PUT") or client.Answer(200, (), body).json.get("pixels") in (None, [])
