"""Refusals as RFC 9457 problem details, and the headers that every answer carries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"
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

    def __init__(
        self, status: int, code: str, detail: str, *, retry_after: float | None = None, close: bool = False
    ) -> None:
        """Refuse a request.

        Args:
            status: of HTTP.
            code: for programs.
            detail: a sentence for people.
            retry_after: seconds until it is worth trying again.
            close: end the connection with the answer.
        """
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"
        if close:
            self.headers["Connection"] = "close"

    def body(self, request_id: str) -> bytes:
        """Return the problem details; ``error`` repeats the sentence where the Open Inference Protocol looks for it."""
        details = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "error": self.detail,
            "request_id": request_id,
        }
        return json.dumps(details).encode() + b"\n"


def malformed(detail: str) -> Problem:
    """Return the refusal of a body that was understood but is not acceptable."""
    return Problem(422, "unprocessable", detail)


def bad_request(detail: str = "The request is not HTTP as this server speaks it.") -> Problem:
    """Return the refusal of what is no acceptable HTTP."""
    return Problem(400, "bad_request", detail, close=True)


def too_large() -> Problem:
    """Return the refusal of a body that is too large."""
    return Problem(413, "too_large", "The body is too large.", close=True)


def busy() -> Problem:
    """Return the refusal of what there is no room for."""
    return Problem(503, "busy", "Too many predictions are being computed already.", retry_after=1)


def unrecorded() -> Problem:
    """Return the refusal of an answer that could not be recorded: no record, no prediction."""
    return Problem(503, "log_unavailable", "The audit log cannot be written, so nothing is predicted.", retry_after=5)


def timed_out(seconds: float) -> Problem:
    """Return the refusal of a request that took too long to arrive or to wait."""
    return Problem(503, "timed_out", f"The request took longer than {seconds:g} seconds.", retry_after=1, close=True)
