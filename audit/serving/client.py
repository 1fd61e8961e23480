"""A small HTTP client that can also say what no well-behaved one would: it sends bytes as they are."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

ADDRESS = "127.0.0.1"
PATIENCE = 10.0  # seconds that a request waits for its answer
LARGEST_ANSWER = 2**20  # bytes that are read of it
JSON = "application/json"
Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an HTTP response."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value, whatever the case of its name; None where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty one where the body is something else."""
        try:
            found = json.loads(self.body)
        except ValueError:  # also what is not UTF-8
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def request_id(self) -> str | None:
        """Return the request id of the header."""
        return self.header("X-Request-Id")

    @property
    def text(self) -> str:
        """Return everything that was said, headers too."""
        head = "\n".join(f"{key}: {value}" for key, value in self.headers)
        return f"{head}\n\n{self.body.decode('utf-8', errors='replace')}"


def outcome(answer: Answer | None) -> str:
    """Return what came, in words."""
    return "no answer" if answer is None else f"status {answer.status}"


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Sequence[Header] = (),
    kind: str = JSON,
    *,
    host: str = ADDRESS,
    close: bool = True,
) -> bytes:
    """Return a well-formed request as bytes; ``headers`` replace none of its own, ``close`` ends the connection."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(["Connection: close"] if close else [])]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def pixels_body(pixels: Sequence[float]) -> bytes:
    """Return the JSON body of a question about one image."""
    return json.dumps({"pixels": list(pixels)}).encode()


def tensor_body(pixels: Sequence[float], count: int = 1) -> bytes:
    """Return the body of a question about so many images, all the same, in the Open Inference Protocol."""
    tensor = {"name": "pixels", "shape": [count, len(pixels)], "datatype": "FP32", "data": [list(pixels)] * count}
    return json.dumps({"inputs": [tensor]}).encode()


def exchange(
    port: int, sent: bytes, *, seconds: float = PATIENCE, half_close: bool = False, source: str | None = None
) -> Answer | None:
    """Send bytes and read one answer.

    Args:
        port: of the server on the loopback address.
        sent: the request.
        seconds: time-out of each step.
        half_close: say that nothing more will come, for a request that is cut short.
        source: the address to ask from, another one of the loopback network.

    Returns:
        The answer; None where the server closed the connection, or kept silent, without one.
    """
    try:
        come_from = None if source is None else (source, 0)
        with socket.create_connection((ADDRESS, port), timeout=seconds, source_address=come_from) as connection:
            with suppress(OSError):  # a server may answer, and close, before it has read everything
                connection.sendall(sent)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return read_answer(connection, sent.split(b" ", 1)[0].decode("latin-1"))
    except OSError:
        return None


@contextmanager
def kept(port: int, *, seconds: float = PATIENCE) -> Iterator[Callable[[bytes], Answer | None]]:
    """Give a function that sends one request after the other over a single connection; None once it is closed.

    Raises:
        OSError: there is no connection.
    """
    with socket.create_connection((ADDRESS, port), timeout=seconds) as connection:

        def ask(sent: bytes) -> Answer | None:
            try:
                connection.sendall(sent)
            except OSError:
                return None
            return read_answer(connection, sent.split(b" ", 1)[0].decode("latin-1"))

        yield ask


def can_ask_from(source: str) -> bool:
    """Tell whether this machine lets a program ask from an address."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind((source, 0))
        return True
    return False


def read_answer(connection: socket.socket, method: str = "GET") -> Answer | None:
    """Read one answer from a connection; None where none comes that is whole HTTP."""
    response = HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read(LARGEST_ANSWER)
        if response.length and len(body) < LARGEST_ANSWER:
            return None  # cut off in the middle of an answer
        return Answer(response.status, tuple(response.getheaders()), body)
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        response.close()
