"""Refusals: what a client is told when it gets no prediction, and the headers that every answer carries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Problem(Exception):
    """A request that is refused, in words for whoever sent it: what is wrong, nothing about the inside."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: float | None = None) -> None:
        """Refuse with an HTTP status, a code for programs, a sentence for people and, in seconds, when to try again."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def body(self, request_id: str) -> bytes:
        """Return the JSON that is answered."""
        error = {"code": self.code, "message": self.message}
        return json.dumps({"error": error, "request_id": request_id}).encode() + b"\n"


def malformed(message: str) -> Problem:
    """Return the refusal of a body that was understood but is not acceptable."""
    return Problem(422, "unprocessable", message)


def unrecorded() -> Problem:
    """Return the refusal of an answer that could not be recorded: no record, no prediction."""
    return Problem(503, "log_unavailable", "The audit log cannot be written, so nothing is predicted.", retry_after=5)


def timed_out(seconds: float) -> Problem:
    """Return the refusal of a request that took too long to arrive or to wait."""
    return Problem(503, "timed_out", f"The request took longer than {seconds:g} seconds.", retry_after=1)
