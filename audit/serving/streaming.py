"""A client that sends on and on, until the server has had enough."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from audit.serving import client
from audit.serving.client import ADDRESS, Answer


@dataclass(frozen=True, slots=True)
class Streamed:
    """Bytes that were taken of a body, the answer that ended it, and whether the connection was cut instead."""

    given: int
    answer: Answer | None
    cut: bool


def stream(port: int, head: bytes, part: bytes, most: int, seconds: float) -> Streamed:
    """Send a part of a body again and again until there is an answer, an end of the connection, or enough of it.

    Args:
        port: of the server on the loopback address.
        head: what comes first.
        part: what comes again.
        most: bytes that are sent at most; then the answer is waited for.
        seconds: for all of it.
    """
    end, given = time.monotonic() + seconds, 0
    try:
        with socket.create_connection((ADDRESS, port), timeout=seconds) as connection:
            connection.sendall(head)
            while time.monotonic() < end:
                wait = 0.0 if given < most else end - time.monotonic()
                if select.select([connection], [], [], max(0.0, wait))[0]:
                    answer = client.read_answer(connection, "POST")
                    return Streamed(given, answer, cut=answer is None)
                connection.settimeout(max(0.01, end - time.monotonic()))
                if given < most:
                    connection.sendall(part)
                    given += len(part)
    except TimeoutError:
        return Streamed(given, None, cut=False)
    except OSError:  # cut off, which is what is expected
        return Streamed(given, None, cut=True)
    return Streamed(given, None, cut=False)
