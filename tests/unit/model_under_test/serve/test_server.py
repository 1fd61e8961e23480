"""The server beneath: slow, huge and broken requests cost a connection at most, and everybody else is answered."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

import pytest

from model_under_test.serve import chain
from model_under_test.serve.server import _listening as listening
from tests.unit.model_under_test.serve.test_app import PIXELS, records

BODY = json.dumps(PIXELS).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def connect(server):
    return socket.create_connection((server.host, server.port), timeout=20)


def answer(connection):
    """Return status, headers and JSON of the next answer."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.headers, json.loads(response.read())


def answers(connection):
    """Yield status and JSON of all answers until the connection ends."""
    stream = connection.makefile("rb")
    while line := stream.readline():
        headers = dict(iter(lambda: tuple(stream.readline().rstrip().lower().split(b": ", 1)), (b"",)))
        yield int(line.split()[1]), json.loads(stream.read(int(headers[b"content-length"])))


def test_the_second_part_of_an_answer_does_not_wait_for_the_client_to_acknowledge_the_first():
    with listening("127.0.0.1", 0) as listener:
        listener.listen()
        listener.settimeout(20)
        with socket.create_connection(listener.getsockname(), timeout=20):
            taken, _ = listener.accept()
            with taken:
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def ask(server, content=WHOLE):
    with connect(server) as connection:
        connection.sendall(content)
        return answer(connection)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "bad_request", id="not HTTP"),
        pytest.param(b"get /predict HTTP/1.1\r\n\r\n", 400, "bad_request", id="a method in small letters"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", 400, "bad_request", id="a negative length"),
        pytest.param(HEAD + b"Content-Length: 1e3\r\n\r\n", 400, "bad_request", id="a length in words"),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400, "bad_request", id="two lengths"
        ),
        pytest.param(
            HEAD + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400, "bad_request", id="no length at all"
        ),
        pytest.param(b"POST http://[/predict HTTP/1.1\r\n\r\n", 400, "bad_request", id="an address that is none"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "bad_request", id="an unknown encoding"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request", id="a broken chunk"),
        pytest.param(HEAD + b"bad header\r\n\r\n", 400, "bad_request", id="a broken header"),
        pytest.param(HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431, "headers_too_large", id="huge headers"),
        pytest.param(HEAD + b"Content-Length: 5001\r\n\r\n", 413, "too_large", id="a body too large, by its length"),
        pytest.param(
            HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", 400, "bad_request", id="an enormous length"
        ),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request", id="both"
        ),
        pytest.param(b"POST /predict HTTP/1.1\r\n\r\n", 400, "bad_request", id="no host"),
        pytest.param(HEAD + b"Host: localhost\r\n\r\n", 400, "bad_request", id="two hosts"),
        pytest.param(HEAD.replace(b"localhost", b"evil.example") + b"\r\n", 421, "misdirected", id="another host"),
        pytest.param(
            b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421, "misdirected", id="another target"
        ),
        pytest.param(HEAD + b"Content-Encoding: gzip\r\n\r\n", 415, "unsupported_encoding", id="compressed"),
        pytest.param(HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 400, "bad_request", id="an upgrade"),
        pytest.param(HEAD.replace(b"1.1", b"9.9") + b"\r\n", 400, "bad_request", id="another version"),
        pytest.param(
            HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(200)), 431, "headers_too_large", id="many headers"
        ),
        pytest.param(b"GET /predict?" + b"x" * 20_000, 431, "headers_too_large", id="a huge address"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200, 413, "too_large", id="tiny chunks"
        ),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"fff\r\n" + b"x" * 4095 + b"\r\nfff\r\n" + b"x" * 4095,
            413,
            "too_large",
            id="a body too large, in chunks",
        ),
    ],
)
def test_what_the_server_itself_refuses_looks_like_everything_else(make_server, tmp_path, content, status, code):
    found, headers, body = ask(make_server(body_bytes=5_000), content)
    assert (found, body["code"]) == (status, code)
    assert headers["X-Request-Id"] == body["request_id"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Content-Type"] == "application/problem+json"
    assert "Server" not in headers
    expected = [status] if b" /predict" in content else []
    path = tmp_path / "audit.jsonl"
    assert [one["status"] for one in records(tmp_path)] == expected
    assert chain.verify(path) == len(expected)


def test_a_body_of_exactly_the_limit_is_read(make_server):
    assert ask(make_server(body_bytes=len(BODY)))[0] == 200


def test_a_client_that_sends_far_too_much_still_sees_the_answer(make_server):
    server = make_server(body_bytes=5_000)
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 8000000\r\n\r\n")
        connection.sendall(b"x" * 8_000_000)
        assert answer(connection)[0] == 413


def test_chunks_within_the_limit_are_a_body(make_server):
    chunk = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
    assert ask(make_server(), HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)[0] == 200


@pytest.mark.parametrize(
    "beginning", [HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"], ids=["slow headers", "a slow body"]
)
def test_a_client_cannot_renew_its_time_by_dripping(make_server, tmp_path, beginning):
    server = make_server(header_seconds=1.0, request_seconds=1.0)
    stop = threading.Event()
    with connect(server) as connection:
        connection.sendall(beginning)

        def drip():
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert ask(server)[0] == 200, "others are answered meanwhile"
        status, headers, body = answer(connection)
        stop.set()
        thread.join()
    assert (status, body["code"]) == (503, "timed_out")
    assert "Retry-After" in headers
    assert [one["status"] for one in records(tmp_path)] == [200, 503]


def test_a_silent_connection_is_closed(make_server):
    server = make_server(request_seconds=1.0)
    with connect(server) as connection:
        assert connection.recv(1) == b""


def test_a_crowd_of_silent_connections_keeps_nobody_out(make_server):
    server = make_server(connections=10)
    crowd = [connect(server) for _ in range(60)]
    try:
        for _ in range(5):
            assert ask(server)[0] == 200
        assert len(server.server_state.connections) <= 11
    finally:
        for connection in crowd:
            connection.close()


def test_whoever_comes_while_all_connections_are_being_answered_is_told_to_come_again(make_server):
    server = make_server(connections=1)
    inside, leave, real = threading.Event(), threading.Event(), server.service.model.predict

    def slow(pixels):
        inside.set()
        leave.wait(20)
        return real(pixels)

    server.service.model.predict = slow
    with connect(server) as working:
        working.sendall(WHOLE)
        assert inside.wait(20)
        status, headers, body = ask(server)
        leave.set()
        assert (status, body["code"], headers["Retry-After"]) == (503, "busy", "1")
        assert answer(working)[0] == 200


def test_a_connection_is_kept_for_the_next_request(make_server):
    server = make_server()
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(WHOLE)
            assert answer(connection)[0] == 200


def test_a_drain_answers_what_was_accepted_and_takes_no_more(make_server, tmp_path):
    server = make_server()
    inside, leave, real = threading.Semaphore(0), threading.Event(), server.service.model.predict

    def slow(pixels):
        inside.release()
        leave.wait(20)
        return real(pixels)

    server.service.model.predict = slow
    with connect(server) as working, connect(server) as sending:
        working.sendall(WHOLE)
        assert inside.acquire(timeout=20)
        sending.sendall(WHOLE[:200])
        server.drain()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                connect(server).close()
            except ConnectionRefusedError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("it still listens")
        sending.sendall(WHOLE[200:])
        leave.set()
        for connection in (working, sending):
            status, headers, _ = answer(connection)
            assert (status, headers["Connection"]) == (200, "close")
    assert [one["status"] for one in records(tmp_path)] == [200, 200]


def test_each_client_id_is_the_peer(make_server, tmp_path):
    server = make_server()
    ask(server, WHOLE.replace(b"Host: localhost", b"Host: localhost\r\nX-Forwarded-For: 10.1.2.3"))
    assert records(tmp_path)[0]["client"] == "127.0.0.1"


def test_requests_sent_ahead_are_answered_in_their_order(make_server, tmp_path):
    with connect(make_server()) as connection:
        connection.sendall(WHOLE + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + WHOLE)
        found = answers(connection)
        assert [sorted(next(found)[1])[0] for _ in range(3)] == ["class", "alive", "class"]
    assert [one["status"] for one in records(tmp_path)] == [200, 200]


def test_too_many_requests_sent_ahead_are_refused_after_the_first_ones(make_server):
    with connect(make_server()) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        found = [status for status, _ in answers(connection)]
    assert set(found[:-1]) == {200}
    assert found[-1] == 400
    assert len(found) < 30


def test_a_request_that_breaks_off_behind_another_one_waits_for_its_turn(make_server, tmp_path):
    with connect(make_server()) as connection:
        connection.sendall(WHOLE + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert [status for status, _ in answers(connection)] == [200, 400]
    assert [one["status"] for one in records(tmp_path)] == [200, 400]


def test_who_never_reads_is_given_up_and_nobody_waits_for_them(make_server):
    server = make_server(write_seconds=1.0, rate_per_minute=100_000)
    crowd = [connect(server) for _ in range(20)]
    try:
        for one in crowd:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
        pages, ended = b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8, set()
        deadline = time.monotonic() + 30
        while len(ended) < len(crowd) and time.monotonic() < deadline:
            for index, one in enumerate(crowd):
                try:
                    one.send(pages)
                except BlockingIOError:
                    pass
                except OSError:
                    ended.add(index)
            began = time.monotonic()
            assert ask(server)[0] == 200
            assert time.monotonic() - began < 5
        assert len(ended) == len(crowd)
    finally:
        for one in crowd:
            one.close()


def test_reading_a_byte_now_and_then_does_not_renew_the_time(make_server):
    server = make_server(write_seconds=1.0)
    with connect(server) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                slow.send(b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4, socket.MSG_DONTWAIT)
            except BlockingIOError:
                slow.recv(1)
                time.sleep(0.05)
            except OSError:
                return
    pytest.fail("it is still connected")


def test_a_client_that_has_sent_all_is_answered(make_server):
    with connect(make_server()) as connection:
        connection.sendall(WHOLE)
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_the_end_is_told_before_it_comes(make_server):
    server = make_server(drain_seconds=3.0)
    ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert ask(server, ready)[0] == 200
    server.drain()
    assert ask(server, ready)[0] == 503
    assert ask(server)[0] == 200, "until it stops listening it answers"
