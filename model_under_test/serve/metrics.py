"""What the service counts, in the Prometheus text format. The class shares and the confidence show drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from model_under_test.serve.model import Prediction

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
KNOWN = {
    "serve_in_flight": "Requests that are being predicted.",
    "serve_log_records": "Records in the chain of the audit log.",
    "serve_log_unrecorded": "Refusals that the audit log will never hold, because it could not be written.",
    "serve_log_room_bytes": "Bytes left on the file system of the audit log.",
    "serve_ready": "1 while weights, tokens and audit log are as they should be, and the server is not about to end.",
}
_SHARES = tuple(step / 10 for step in range(1, 11))


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, asked: Mapping[str, Callable[[], float]]) -> None:
        """Start at zero; what others know already (a function for each of ``KNOWN``) is asked when somebody reads."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "serve_requests", "Answers, by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "serve_request_seconds", "From first byte to answer, predictions.", buckets=_SECONDS, registry=registry
        )
        self._classes = Counter("serve_predictions", "Predictions, by class.", ["digit"], registry=registry)
        self._confidence = Histogram(
            "serve_confidence", "Probability of the predicted class.", buckets=_SHARES, registry=registry
        )
        for digit in range(10):
            self._classes.labels(str(digit))
        for name, text in KNOWN.items():
            Gauge(name, text, registry=registry).set_function(asked[name])

    def predicted(self, prediction: Prediction) -> None:
        """Count one answer of the network."""
        self._classes.labels(str(prediction.digit)).inc()
        self._confidence.observe(max(prediction.probabilities))

    def text(self) -> bytes:
        """Return all figures in the text format."""
        return generate_latest(self._registry)
