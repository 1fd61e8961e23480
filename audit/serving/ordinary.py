"""An ordinary question beside an attack, which must be answered in time."""

from __future__ import annotations

import time

from audit.serving import client
from audit.serving.bench import Bench, Server, Tried

OTHERS_SECONDS = 5.0  # within which an ordinary question must be answered meanwhile
AGAIN_SECONDS = 1.0  # before it is asked once more, where the connection was closed without an answer


class Waits:
    """Asks ordinary questions, and notes how long each took."""

    def __init__(self, bench: Bench, server: Server, tried: Tried) -> None:
        """Ask nothing yet; findings go into ``tried``."""
        self._bench, self._server, self._tried = bench, server, tried
        self.seconds: list[float] = []

    def ask(self, when: str) -> None:
        """Ask one question; ``when`` says in a finding what else was going on.

        Who is turned away without an answer asks once more, a moment later: so a moment in which all connections are
        being worked for is no finding, and one that lasts is.
        """
        began = time.monotonic()
        answer = self._server.predict(self._bench.sample, seconds=OTHERS_SECONDS)
        if answer is None and time.monotonic() - began < OTHERS_SECONDS - AGAIN_SECONDS:  # turned away
            time.sleep(AGAIN_SECONDS)
            answer = self._server.predict(self._bench.sample, seconds=OTHERS_SECONDS - AGAIN_SECONDS)
        self.seconds.append(time.monotonic() - began)
        if answer is None or answer.status != 200:
            said = client.outcome(answer)
            message = f"{when} an ordinary question: {said} within {OTHERS_SECONDS:g} s"
            self._tried.add("others wait", "/predict", message)
