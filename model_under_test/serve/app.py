"""The application: who may ask, how often, how many at once; then the prediction, the record, the answer.

Limits come in this order: who is it, is it too often (failed authentication counts too), may it, is the request
acceptable, is there room. Whatever goes wrong is answered as problem details with a request id and no word about the
inside. Paths are compared as they came: nothing is redirected or made normal.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from torch import Tensor

from model_under_test.serve import problems
from model_under_test.serve.hosts import address_group, same_origin
from model_under_test.serve.model import Prediction
from model_under_test.serve.problems import HEADERS, Problem
from model_under_test.serve.service import BEGUN, PROBLEM, Service, new_request_id
from model_under_test.serve.tokens import Entry
from model_under_test.serve.tokens import Scope as TokenScope
from model_under_test.serve.trace import traced

READING, PREDICTING = ("GET", "HEAD"), ("POST",)
Made = TypeVar("Made")


@dataclass(slots=True)
class Exchange:
    """A request, and what is known of it so far."""

    request: Request
    begun: float
    request_id: str
    client: str
    counted_as: str
    token: Entry | None = None
    endpoint: Endpoint | None = None
    counted: bool = False
    recorded: bool = False
    input_sha256: str | None = None

    @property
    def media_type(self) -> str:
        """Return what the body says it is, without parameters; empty where it says nothing."""
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is at an address: its name in the figures, its methods, and the scope of a token that it takes."""

    name: str
    answer: Callable[[Exchange], Awaitable[Response]]
    methods: tuple[str, ...] = READING
    scope: TokenScope | None = None

    @property
    def recorded(self) -> bool:
        """Tell whether every answer gets a line in the audit log."""
        return self.scope is TokenScope.PREDICT


class Application:
    """An ASGI application that answers for one service."""

    def __init__(self, service: Service) -> None:
        """Make the table of addresses; predictions have a thread for each that may be computed at once."""
        from model_under_test.serve.endpoints import table

        self.service = service
        self._computing = ThreadPoolExecutor(service.settings.in_flight, "predict")
        self._minding = ThreadPoolExecutor(1, "mind")
        self._table = table(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = _begin(scope, receive)
        exchange.endpoint = self._table.get(scope["path"])
        try:
            response = await self._answer(exchange)
        except ClientDisconnect:
            return
        except Exception as error:
            response = await self._refusal(exchange, error)
        name = exchange.endpoint.name if exchange.endpoint else "other"
        self.service.metrics.requests.labels(name, str(response.status_code)).inc()
        response.headers.update({**HEADERS, "X-Request-Id": exchange.request_id, **traced(exchange.request)})
        await response(scope, receive, send)

    async def mind(self, do: Callable[..., Made], *given: Any) -> Made:
        """Return what a function says that minds the log; one runs at a time, beside the event loop."""
        return await _beside(self._minding, do, *given)

    def close(self) -> None:
        """Let the threads end their work."""
        self._computing.shutdown()
        self._minding.shutdown()

    async def _answer(self, exchange: Exchange) -> Response:
        if problem := exchange.request.scope["state"].get(PROBLEM):
            raise problem
        endpoint, service, guessed = exchange.endpoint, self.service, False
        if service.tokens is not None:
            given = exchange.request.headers.getlist("authorization")
            exchange.token = service.tokens.tokens().find(given[0] if len(given) == 1 else "")
            guessed = bool(given) and exchange.token is None
            if exchange.token:
                exchange.client, exchange.counted_as = exchange.token.name, f"token:{exchange.token.name}"
        if endpoint is None:
            raise Problem(404, "not_found", "There is nothing at this address.")
        if endpoint.scope or guessed:
            self._count(exchange)
        if guessed and not endpoint.scope:  # what an address says to some only tells whether a guess was right
            service.rates.failed()
        if exchange.request.method not in endpoint.methods:
            problem = Problem(405, "method_not_allowed", "This address does not take that method.")
            problem.headers["Allow"] = ", ".join(endpoint.methods)
            raise problem
        if endpoint.scope:
            self._authorise(exchange, endpoint.scope)
        origin = exchange.request.headers.get("origin")
        if origin is not None and not same_origin(origin, exchange.request.headers["host"]):
            raise Problem(403, "foreign_origin", "Requests from pages of other origins are not taken.")
        return await endpoint.answer(exchange)

    def _count(self, exchange: Exchange, cost: int = 1) -> None:
        exchange.counted = True
        self.service.rates.count(exchange.counted_as, cost)

    def _authorise(self, exchange: Exchange, scope: TokenScope) -> None:
        if self.service.tokens is None:
            return
        if exchange.token is None:  # one answer for a missing, an unknown and an expired token
            self.service.rates.failed()
            raise Problem(401, "unauthorised", "Expected a valid token: Authorization: Bearer TOKEN.")
        if scope not in exchange.token.scopes:
            raise Problem(403, "forbidden", f"This token does not have the scope {scope}.")

    async def predict(self, exchange: Exchange, read: Callable[[bytes], Tensor]) -> tuple[Tensor, list[Prediction]]:
        """Read the images of a request, predict and record them.

        Args:
            exchange: the request.
            read: makes (n, 784) images of the body; runs beside the event loop.

        Returns:
            The images as the network saw them, and what it said about each.

        Raises:
            Problem: what is wrong, or that there is no room or no time.
        """
        service, limits = self.service, self.service.settings
        body = await exchange.request.body()
        exchange.input_sha256 = hashlib.sha256(body).hexdigest()
        with service.places.one(exchange.counted_as):
            images = await _beside(self._computing, read, body)
            if len(images) > 1:
                self._count(exchange, len(images) - 1)
            if time.monotonic() - exchange.begun > limits.request_seconds:
                raise problems.timed_out(limits.request_seconds)
            return images, await _beside(self._computing, self._predicted, exchange, images)

    def _predicted(self, exchange: Exchange, images: Tensor) -> list[Prediction]:
        predictions = [self.service.model.predict(image) for image in images]
        exchange.recorded = True  # also where it fails: then the log remembers the request as refused
        self.service.answered(
            request_id=exchange.request_id,
            client=exchange.client,
            begun=exchange.begun,
            input_sha256=exchange.input_sha256 or "",
            predictions=predictions,
        )
        return predictions

    async def _refusal(self, exchange: Exchange, error: Exception) -> Response:
        """Return the answer to a request that is refused, after recording it where answers are."""
        if not isinstance(error, Problem):
            logging.getLogger(__name__).error("request %s failed", exchange.request_id, exc_info=error)
            error = Problem(500, "internal", "Something went wrong here; the request id tells the operator what.")
        if exchange.token is None:
            error = self._counted(exchange, error)
        if exchange.endpoint and exchange.endpoint.recorded and not exchange.recorded:
            try:
                await self.mind(self._refused, exchange, error.status)
            except Problem as worse:
                error = worse
        body = error.body(exchange.request_id)
        return Response(body, error.status, headers=error.headers, media_type=problems.MEDIA_TYPE)

    def _refused(self, exchange: Exchange, status: int) -> None:
        self.service.refused(
            request_id=exchange.request_id,
            client=exchange.client,
            begun=exchange.begun,
            status=status,
            input_sha256=exchange.input_sha256,
        )

    def _counted(self, exchange: Exchange, problem: Problem) -> Problem:
        """Count the refusal of somebody without a token; who has too many has to connect again for each."""
        try:
            if not exchange.counted:
                self._count(exchange)
        except Problem as worse:
            problem = worse
        if problem.status == 429:
            problem.headers["Connection"] = "close"
        return problem


async def _beside(pool: ThreadPoolExecutor, do: Callable[..., Made], *given: Any) -> Made:
    return await asyncio.get_running_loop().run_in_executor(pool, do, *given)


def _begin(scope: Scope, receive: Receive) -> Exchange:
    address = scope["client"][0] if scope.get("client") else "unknown"
    state = scope.setdefault("state", {})
    return Exchange(
        request=Request(scope, receive),
        begun=state.get(BEGUN) or time.monotonic(),
        request_id=new_request_id(),
        client=address,
        counted_as=f"peer:{address_group(address)}",
    )
