"""Many refusals of one client share one line of the audit log, so that a flood does not fill it.

Pure: the time is passed in, nothing is written. Used from the event loop only.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SECONDS = 60.0
MOST_CLIENTS = 10_000
OTHERS = "others"  # the client under which those beyond are folded


@dataclass(frozen=True, slots=True)
class Folded:
    """Refusals that share a line."""

    client: str
    status: int
    count: int


@dataclass(slots=True)
class _Counted:
    since: float
    count: int


class Folding:
    """The refusals of each client within its last minute."""

    def __init__(self, each: int = 10, every: float = 10.0) -> None:
        """Start with nobody.

        Args:
            each: refusals of a client within a minute that have a line of their own.
            every: seconds between two lines for the others of one client and status.
        """
        self._each, self._every = each, every
        self._clients: dict[str, _Counted] = {}  # ordered by when their minute began
        self._waiting: dict[tuple[str, int], _Counted] = {}  # ordered by when their counting began

    def alone(self, client: str, status: int, now: float) -> bool:
        """Tell whether a refusal has a line of its own; where not, it is counted.

        Args:
            client: whose it is.
            status: of the answer.
            now: monotonic seconds.
        """
        name = self._name(client, now)
        window = self._clients.setdefault(name, _Counted(now, 0))
        if window.count < self._each:
            window.count += 1
            return True
        if (name, status) not in self._waiting and len(self._waiting) >= MOST_CLIENTS:
            name = OTHERS
        self._waiting.setdefault((name, status), _Counted(now, 0)).count += 1
        return False

    def due(self, now: float, all: bool = False) -> list[Folded]:
        """Return what is to be written now, and forget it.

        Args:
            now: monotonic seconds.
            all: whether it is time or not, since this is the end.
        """
        found = []
        for (client, status), counted in self._waiting.items():
            if not all and now - counted.since < self._every:
                break
            found.append(Folded(client, status, counted.count))
        for one in found:
            del self._waiting[one.client, one.status]
        return found

    def _name(self, client: str, now: float) -> str:
        """Return under whom a client is counted, after forgetting those whose minute is over."""
        while self._clients:
            oldest = next(iter(self._clients))
            if now - self._clients[oldest].since < WINDOW_SECONDS:
                break
            del self._clients[oldest]
        return client if client in self._clients or len(self._clients) < MOST_CLIENTS else OTHERS
