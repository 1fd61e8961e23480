"""The client sends bytes as they are, and takes whatever comes back."""

from __future__ import annotations

import json
import socket
from threading import Thread

import pytest

from audit.serving import client
from audit.serving.client import Answer

OK = b"HTTP/1.1 200 OK\r\nX-Request-Id: r1\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}'


@pytest.fixture
def answering():
    """Give a function that starts a server of one connection that sends these bytes; gives port and what came."""
    threads = []

    def start(content, *, read=True):
        listener = socket.create_server(("127.0.0.1", 0))
        got = []

        def serve():
            with listener, listener.accept()[0] as connection:
                connection.settimeout(5)
                if read:
                    got.append(connection.recv(65536))
                connection.sendall(content)

        threads.append(Thread(target=serve))
        threads[-1].start()
        return listener.getsockname()[1], got

    yield start
    for thread in threads:
        thread.join()


def test_status_headers_and_body_are_read(answering):
    port, got = answering(OK)
    answer = client.exchange(port, client.request("GET", "/x", headers=[("A", "b"), ("A", "c")]))
    assert (answer.status, answer.json, answer.request_id, answer.header("x-request-ID")) == (200, {"a": 1}, "r1", "r1")
    assert got[0].startswith(b"GET /x HTTP/1.1\r\n")
    assert got[0].endswith(b"\r\nA: b\r\nA: c\r\n\r\n")


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", OK[:-3]])
def test_what_is_no_whole_answer_is_none(answering, content):
    port, _ = answering(content)
    assert client.exchange(port, client.request("GET", "/"), seconds=5) is None


def test_an_answer_before_the_whole_body_was_read_is_seen(answering):
    port, _ = answering(OK)
    answer = client.exchange(port, client.request("POST", "/predict", b"x" * 1000))
    assert answer.status == 200


def test_nobody_listening_is_none():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert client.exchange(port, b"GET / HTTP/1.1\r\n\r\n", seconds=1) is None


def test_silence_is_none():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert client.exchange(listener.getsockname()[1], b"GET / HTTP/1.1\r\n\r\n", seconds=0.2) is None


@pytest.mark.parametrize("body", [b"", b"[1]", b"7", b"\xff\xfe", b"{"])
def test_a_body_that_is_no_object_is_an_empty_one(body):
    assert Answer(200, (), body).json == {}


def test_a_kept_connection_takes_one_request_after_the_other(answering):
    port, got = answering(OK)
    with client.kept(port) as ask:
        assert ask(client.request("GET", "/", close=False)).json == {"a": 1}
        assert ask(client.request("GET", "/", close=False)) is None
    assert b"Connection: close" not in got[0]


def test_a_request_may_come_from_another_address_and_be_for_another_host(answering):
    port, got = answering(OK)
    sent = client.request("GET", "/", host="elsewhere.example")
    assert client.exchange(port, sent, source="127.0.0.1").status == 200
    assert b"Host: elsewhere.example\r\n" in got[0]
    assert client.can_ask_from("127.0.0.1")
    assert not client.can_ask_from("192.0.2.1")


def test_a_tensor_says_its_shape():
    said = json.loads(client.tensor_body([0.0, 1.0], 3))["inputs"][0]
    assert (said["shape"], said["data"]) == ([3, 2], [[0.0, 1.0]] * 3)
