"""What one running service holds, and what every answer to a question goes through: record first, then answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from model_under_test.serve.anchors import Anchors
from model_under_test.serve.audit_log import AuditLog, LogUnavailable
from model_under_test.serve.folding import Folding
from model_under_test.serve.limits import Places, Rates
from model_under_test.serve.metrics import Metrics
from model_under_test.serve.model import Prediction, ServedModel
from model_under_test.serve.problems import unrecorded
from model_under_test.serve.settings import Settings
from model_under_test.serve.tokens import Watched

# keys of a request's state: when its first byte came (monotonic seconds), and why the connection refuses it
BEGUN, PROBLEM = "begun", "problem"
DECIMALS = 4  # of a probability


class Service:
    """Settings, tokens, model, log and figures; shared by the application and by the server beneath it."""

    def __init__(
        self,
        settings: Settings,
        tokens: Watched | None,
        model: ServedModel,
        log: AuditLog,
        anchors: Anchors | None = None,
    ) -> None:
        """Put the parts together; ``tokens`` None is the open mode, which has to be asked for by name."""
        self.settings, self.tokens, self.model, self.log, self._anchors = settings, tokens, model, log, anchors
        self.rates, self.places, self._folding = Rates(settings), Places(settings), Folding()
        self.draining = False
        self.metrics = Metrics(
            {
                "serve_in_flight": lambda: self.places.taken,
                "serve_log_records": lambda: log.end.seq,
                "serve_log_unrecorded": lambda: log.forgotten,
                "serve_log_room_bytes": lambda: log.room,
                "serve_ready": lambda: not self.troubles(),
            }
        )

    def troubles(self) -> list[str]:
        """Say why the service is not ready; nothing while it is."""
        watched = [one.trouble() for one in (self.model, self.log, self.tokens, self._anchors) if one is not None]
        return [reason for reason in ("the server is about to end" if self.draining else None, *watched) if reason]

    def answered(
        self, *, request_id: str, client: str, begun: float, input_sha256: str, predictions: Sequence[Prediction]
    ) -> None:
        """Write the lines of an answer, one an image, and count it.

        Raises:
            Problem: they could not be written, so this refusal has to be the answer.
        """
        try:
            for index, prediction in enumerate(predictions):
                said = {"class": prediction.digit, "confidence": round(max(prediction.probabilities), DECIMALS)}
                line = _line(request_id=request_id, client=client, status=200, image=index, **said)
                self.log.append(line | {"input_sha256": input_sha256, "model_digest": self.model.digest})
        except LogUnavailable as error:
            raise unrecorded() from error
        finally:
            self.metrics.seconds.observe(time.monotonic() - begun)
        for prediction in predictions:
            self.metrics.predicted(prediction)

    def refused(
        self, *, request_id: str, client: str, begun: float, status: int, input_sha256: str | None = None
    ) -> None:
        """Write the line of a refusal; from the eleventh of a client within a minute on it is counted, and folded.

        Raises:
            Problem: it could not be written, so this refusal has to be the answer.
        """
        self.metrics.seconds.observe(time.monotonic() - begun)
        if self._folding.alone(client, status, time.monotonic()):
            line = _line(request_id=request_id, client=client, status=status)
            try:
                self.log.append(line | {"input_sha256": input_sha256, "model_digest": self.model.digest}, spare=True)
            except LogUnavailable as error:
                raise unrecorded() from error

    def tick(self, *, end: bool = False) -> None:
        """Write what is due: refusals that were folded, and anchors of the log; look whether it is what was written.

        It takes turns with :meth:`refused`: both are for one thread.
        """
        now = time.monotonic()
        for folded in self._folding.due(now, all=end):
            line = _line(request_id=new_request_id(), client=folded.client, status=folded.status, count=folded.count)
            with suppress(LogUnavailable):  # remembered, and written when the log can be again
                self.log.append(line | {"model_digest": self.model.digest}, spare=True)
        self.log.watch(now)
        if self._anchors and (end or self._anchors.due(now, self.log.rotated)):
            with suppress(LogUnavailable):  # readiness tells
                self._anchors.note(self.log.settle(), now, self.log.rotated)


def _line(**known: Any) -> dict[str, Any]:
    """Return the fields of a record, null where nothing is known."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    nothing = dict.fromkeys(("input_sha256", "class", "confidence", "image"))
    return {"time": now, **nothing, "count": 1, **known}


def new_request_id() -> str:
    """Return a fresh id; one that a client sends along is never believed."""
    return secrets.token_hex(16)
