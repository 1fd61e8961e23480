"""What the service counts, in the Prometheus text format. The class shares and the confidence show drift."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from model_under_test.serve.model import Prediction

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SHARES = tuple(step / 10 for step in range(1, 11))


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, *, records: Callable[[], int], forgotten: Callable[[], int], ready: Callable[[], bool]) -> None:
        """Start at zero; what others know already is asked of them when somebody reads."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "serve_requests", "Answers, by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.in_flight = Gauge("serve_in_flight", "Predictions being worked on.", registry=registry)
        self.seconds = Histogram(
            "serve_request_seconds", "From first byte to answer, /predict.", buckets=_SECONDS, registry=registry
        )
        self._classes = Counter("serve_predictions", "Predictions, by class.", ["digit"], registry=registry)
        self._confidence = Histogram(
            "serve_confidence", "Probability of the predicted class.", buckets=_SHARES, registry=registry
        )
        for digit in range(10):
            self._classes.labels(str(digit))
        for name, text, ask in (
            ("serve_log_records", "Records in the chain of the audit log.", records),
            (
                "serve_log_unrecorded",
                "Refusals that the audit log will never hold, because it could not be written.",
                forgotten,
            ),
            ("serve_ready", "1 while the weight file is the verified one and the audit log can be written.", ready),
        ):
            Gauge(name, text, registry=registry).set_function(ask)

    def predicted(self, prediction: Prediction) -> None:
        """Count one answer of the network."""
        self._classes.labels(str(prediction.digit)).inc()
        self._confidence.observe(max(prediction.probabilities))

    def text(self) -> bytes:
        """Return all figures in the text format."""
        return generate_latest(self._registry)
