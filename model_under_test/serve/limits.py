"""How much one client may ask, and how much of it at once. Used from the event loop only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from model_under_test.serve import problems
from model_under_test.serve.problems import Problem
from model_under_test.serve.settings import Settings

FAILURES = 10  # times one client's rate: failed authentications that all addresses have together


class Rates:
    """Requests of each client within the last minute, refused ones included."""

    def __init__(self, settings: Settings) -> None:
        """Start with nobody."""
        self._counted = MovingWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(settings.rate_per_minute)
        self._failures = RateLimitItemPerMinute(FAILURES * settings.rate_per_minute)

    def count(self, client: str, cost: int = 1) -> None:
        """Count what a client asks.

        Raises:
            Problem: 429, the client has asked too often; ``cost`` more than a minute's share can never be had.
        """
        if not self._counted.hit(self._limit, client, cost=cost):
            raise self._too_often(self._limit, client)

    def failed(self) -> None:
        """Count a failed authentication, wherever it came from.

        Raises:
            Problem: 429, there were too many; whoever has a valid token is let in all the same.
        """
        if not self._counted.hit(self._failures, "failures"):
            raise self._too_often(self._failures, "failures")

    def _too_often(self, limit: RateLimitItemPerMinute, key: str) -> Problem:
        again = self._counted.get_window_stats(limit, key).reset_time - time.time()
        return Problem(429, "too_many_requests", "Too many requests; slow down.", retry_after=again)


class Places:
    """Predictions that are computed at once: so many in all, and so many of one client."""

    def __init__(self, settings: Settings) -> None:
        """Start with all places free."""
        self._all = settings.in_flight
        self._each = max(1, int(settings.in_flight * settings.client_share))
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Return how many places are taken."""
        return self._taken.total()

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            Problem: 503, there is none.
        """
        if self.taken >= self._all or self._taken[client] >= self._each:
            raise problems.busy()
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
