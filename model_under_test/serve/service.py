"""What one running service holds, and what every answer to /predict goes through: record first, then answer."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

from model_under_test.serve.audit_log import AuditLog, LogUnavailable
from model_under_test.serve.metrics import Metrics
from model_under_test.serve.model import Prediction, ServedModel
from model_under_test.serve.problems import Problem, unrecorded
from model_under_test.serve.settings import Settings
from model_under_test.serve.tokens import Tokens

BEGUN = "serve.begun"  # key of the WSGI environment: when the first byte of the request came, monotonic seconds


class Service:
    """Settings, tokens, model, log and figures; shared by the application and by the server beneath it."""

    def __init__(self, settings: Settings, tokens: Tokens | None, model: ServedModel, log: AuditLog) -> None:
        """Put the parts together; ``tokens`` None is the open mode, which has to be asked for by name."""
        self.settings, self.tokens, self.model, self.log = settings, tokens, model, log
        self.metrics = Metrics(
            records=lambda: log.end.seq, forgotten=lambda: log.forgotten, ready=lambda: not self.troubles()
        )

    def troubles(self) -> list[str]:
        """Say why the service is not ready; nothing while it is."""
        return [reason for reason in (self.model.trouble(), self.log.trouble()) if reason]

    def record(
        self,
        *,
        request_id: str,
        client: str,
        begun: float,
        status: int,
        input_sha256: str | None = None,
        prediction: Prediction | None = None,
    ) -> None:
        """Write the line of one answer to /predict, and count it.

        Raises:
            Problem: it could not be written, so this refusal has to be the answer.
        """
        fields = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "request_id": request_id,
            "client": client,
            "input_sha256": input_sha256,
            "model_digest": self.model.digest,
            "class": prediction.digit if prediction else None,
            "status": status,
        }
        try:
            self.log.append(fields)
        except LogUnavailable as error:
            raise unrecorded() from error
        finally:
            self.metrics.seconds.observe(time.monotonic() - begun)
        if prediction:
            self.metrics.predicted(prediction)

    def refuse(self, problem: Problem, *, client: str, begun: float, predicting: bool) -> tuple[Problem, str]:
        """Record a refusal that no application ever saw; returns what to answer, and the id of the request."""
        request_id = new_request_id()
        if predicting:
            try:
                self.record(request_id=request_id, client=client, begun=begun, status=problem.status)
            except Problem as worse:
                problem = worse
        self.metrics.requests.labels("predict" if predicting else "other", str(problem.status)).inc()
        return problem, request_id


def new_request_id() -> str:
    """Return a fresh id; one that a client sends along is never believed."""
    return secrets.token_hex(16)
