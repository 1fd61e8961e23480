"""A client that sends on and on sees the answer, the end of the connection, or that nothing came."""

from __future__ import annotations

import socket
from threading import Event, Thread

import pytest

from audit.serving.streaming import stream

HEAD, PART = b"POST / HTTP/1.1\r\n\r\n", b"x" * 1000
REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def taking():
    """Give a function that starts a server of one connection, which takes so many bytes and then does something."""
    threads, over = [], Event()

    def start(enough, then):
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            with listener, listener.accept()[0] as connection:
                connection.settimeout(5)
                taken = 0
                while taken < enough:
                    taken += len(connection.recv(4096))
                then(connection)
                over.wait(5)

        threads.append(Thread(target=serve))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_the_answer_ends_it(taking):
    sent = stream(taking(5000, lambda connection: connection.sendall(REFUSED)), HEAD, PART, 10**8, 5)
    assert (sent.answer.status, sent.cut) == (413, False)
    assert 4000 < sent.given < 10**8


def test_an_answer_after_all_was_sent_is_waited_for(taking):
    sent = stream(taking(5000, lambda connection: connection.sendall(REFUSED)), HEAD, PART, 5000, 5)
    assert (sent.given, sent.answer.status) == (5000, 413)


def test_a_cut_is_no_silence(taking):
    sent = stream(taking(5000, lambda connection: connection.shutdown(socket.SHUT_RDWR)), HEAD, PART, 10**8, 5)
    assert (sent.answer, sent.cut) == (None, True)


@pytest.mark.parametrize("most", [5000, 10**8])
def test_silence_is_no_cut(taking, most):
    sent = stream(taking(100, lambda connection: None), HEAD, PART, most, 0.3)
    assert (sent.answer, sent.cut) == (None, False)
