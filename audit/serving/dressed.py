"""Requests that look as those of many programs do, so that a server cannot tell the audit from other clients."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from audit.serving.chance import Chance
from audit.serving.client import ADDRESS, PATIENCE, Answer, read_answer

BROWSER = (
    "Accept: */*",
    "Accept-Language: en-GB,en;q=0.7",
    "Accept-Encoding: gzip, deflate",
    "Sec-Fetch-Site: same-origin",
)
AGENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", BROWSER),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
     (*BROWSER, "Sec-Fetch-Mode: cors")),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
     "Mobile/15E148 Safari/604.1", BROWSER),
    ("curl/8.14.1", ("Accept: */*",)),
    ("python-requests/2.32.4", ("Accept: */*", "Accept-Encoding: gzip, deflate")),
    ("python-httpx/0.28.1", ("Accept: */*",)),
    ("Go-http-client/1.1", ("Accept-Encoding: gzip",)),
    ("okhttp/4.12.0", ("Accept-Encoding: gzip",)),
    ("", ()),
)  # fmt: skip
PATHS = ("/predict", "/v1/predict")
CHUNKED, PAUSED, STAYING = 0.2, 0.05, 0.6  # shares of the requests
LONGEST_PAUSE = 0.2  # seconds


class Caller:
    """A client that looks like another program with every request; it keeps a connection for some of them."""

    def __init__(self, port: int, seed: int) -> None:
        """Connect to nothing yet."""
        self._port, self._chance = port, Chance(seed)
        self._open: socket.socket | None = None
        self.look = ""  # of the last request, in words

    def ask(self, body: bytes, kind: str, paths: Sequence[str] = PATHS) -> Answer | None:
        """Ask one question, dressed anew; None where no answer came in time."""
        path, stays = self._chance.among(paths), self._chance.share() < STAYING
        pieces = self._pieces(path, body, kind, stays=stays)
        waits = self._chance.between(0.01, LONGEST_PAUSE) if self._chance.share() < PAUSED else 0.0
        kept, answer = self._open is not None, self._exchange(pieces, waits)
        if answer is None and kept:  # a server may close a connection that stays open, at any time
            answer = self._exchange(pieces, waits)
        if not stays or answer is None or (answer.header("Connection") or "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _exchange(self, pieces: list[bytes], waits: float) -> Answer | None:
        try:
            if self._open is None:
                self._open = socket.create_connection((ADDRESS, self._port), timeout=PATIENCE)
            with suppress(OSError):  # a server may answer before it has read everything
                for piece in pieces if waits else [b"".join(pieces)]:
                    self._open.sendall(piece)
                    time.sleep(waits / len(pieces))
            answer = read_answer(self._open, "POST")
        except OSError:
            answer = None
        if answer is None:
            self.close()
        return answer

    def _pieces(self, path: str, body: bytes, kind: str, *, stays: bool) -> list[bytes]:
        """Return a request as the pieces in which it may be sent."""
        chance = self._chance
        agent, others = chance.among(AGENTS)
        chunked = chance.share() < CHUNKED
        lines = [f"Content-Type: {kind}", *others]
        lines += [f"User-Agent: {agent}"] if agent else []
        lines += ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {len(body)}"]
        if not stays or chance.share() < 0.5:  # HTTP/1.1 stays where nothing is said
            lines += [f"Connection: {'keep-alive' if stays else 'close'}"]
        if agent.startswith("Mozilla"):
            lines += [f"Origin: http://{ADDRESS}:{self._port}", f"Referer: http://{ADDRESS}:{self._port}/"]
        lines = chance.shuffled(lines)
        case = chance.among((str, str.lower, str.upper))
        head = [f"POST {path} HTTP/1.1", f"{case('Host')}: {ADDRESS}:{self._port}"]
        head += [f"{case(name)}:{value}" for name, _, value in (line.partition(":") for line in lines)]
        self.look = f"{path}, {agent[:60] or 'no User-Agent'}, {'chunks' if chunked else 'one piece'}"
        content = _chunks(body, chance.below(4001, 200)) if chunked else [body]
        return ["\r\n".join(head).encode() + b"\r\n\r\n", *content]


def _chunks(body: bytes, size: int) -> list[bytes]:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return [*(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts), b"0\r\n\r\n"]
