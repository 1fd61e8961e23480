"""The Flask application: who may ask, how often, how many at once; then the prediction, the record, the answer.

Limits come in this order: who is it, is it too often (failed authentication counts too), may it, is there room, is the
body acceptable. Whatever goes wrong is answered as JSON with a request id and no word about the inside.
"""

from __future__ import annotations

import hashlib
import threading
import time

from flask import Flask, Response, g, jsonify, render_template, request
from flask_limiter import Limiter, RateLimitExceeded
from torch import Tensor
from werkzeug.exceptions import HTTPException

from model_under_test.serve import images, metrics, openapi, pixels
from model_under_test.serve.problems import HEADERS, Problem, malformed, timed_out
from model_under_test.serve.service import BEGUN, Service, new_request_id
from model_under_test.serve.tokens import Entry, Scope

DECIMALS = 4  # of a probability
PICTURES = frozenset({"image/png", "image/jpeg"})
SCOPES = {"predict": Scope.PREDICT, "metrics": Scope.METRICS}  # endpoint -> what it takes
_WORDS = {
    400: ("bad_request", "The request could not be understood."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "The body is too large."),
}


def create_app(service: Service) -> Flask:
    """Return the WSGI application of a service."""
    app = Flask(__name__, static_folder=None)  # its route would be made before the configuration below
    app.debug = app.testing = False  # whatever FLASK_DEBUG says
    app.config.update(
        MAX_CONTENT_LENGTH=service.settings.body_bytes,
        MAX_FORM_MEMORY_SIZE=service.settings.body_bytes,
        MAX_FORM_PARTS=4,
        PROPAGATE_EXCEPTIONS=False,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.static_folder = "static"
    app.add_url_rule("/static/<path:filename>", endpoint="static", view_func=app.send_static_file)
    Guard(service, app).install()
    _routes(app, service)
    return app


class Guard:
    """Stands before and behind every request."""

    def __init__(self, service: Service, app: Flask) -> None:
        """Keep what the checks need; the rates are counted in this process alone."""
        self._service, self._app = service, app
        self._room = threading.BoundedSemaphore(service.settings.in_flight)
        limiter = Limiter(_rate_key, app=app, strategy="moving-window", storage_uri="memory://", headers_enabled=False)
        self._count = limiter.limit(f"{service.settings.rate_per_minute} per minute")(lambda: None)
        self._limiter = limiter

    def install(self) -> None:
        """Register everything with the application."""
        self._app.before_request(self._before)
        self._app.after_request(self._after)
        self._app.teardown_request(self._leave)
        self._app.register_error_handler(Problem, _answer)
        self._app.register_error_handler(HTTPException, self._http)
        self._app.register_error_handler(Exception, self._unexpected)

    def _before(self) -> None:
        g.request_id, g.begun = new_request_id(), request.environ.get(BEGUN, time.monotonic())
        g.client, g.token = request.remote_addr or "unknown", None
        if request.endpoint not in SCOPES:
            return
        open_to_all = self._service.tokens is None
        if self._service.tokens is not None:
            g.token = self._service.tokens.find(request.headers.get("Authorization", ""))
            g.client = g.token.name if g.token else g.client
        self._count()
        if not open_to_all:
            _authorise(g.token, SCOPES[request.endpoint])
        if request.endpoint == "predict":
            self._enter()

    def _enter(self) -> None:
        if not self._room.acquire(blocking=False):
            raise Problem(503, "busy", "Too many predictions are in the works already.", retry_after=1)
        g.entered = True
        self._service.metrics.in_flight.inc()

    def _leave(self, error: BaseException | None) -> None:
        if g.pop("entered", False):
            self._service.metrics.in_flight.dec()
            self._room.release()

    def _after(self, response: Response) -> Response:
        if request.path == "/predict":
            try:
                self._service.record(
                    request_id=g.request_id,
                    client=g.client,
                    begun=g.begun,
                    status=response.status_code,
                    input_sha256=g.get("input_sha256"),
                    prediction=g.get("prediction") if response.status_code == 200 else None,
                )
            except Problem as problem:
                response = _answer(problem)
        endpoint = request.endpoint or ("predict" if request.path == "/predict" else "other")
        self._service.metrics.requests.labels(endpoint, str(response.status_code)).inc()
        response.headers.update({**HEADERS, "X-Request-Id": g.request_id})
        return response

    def _http(self, error: HTTPException) -> Response:
        if isinstance(error, RateLimitExceeded):
            limit = self._limiter.current_limit
            wait = limit.reset_at - time.time() if limit else 60
            return _answer(Problem(429, "too_many_requests", "Too many requests; slow down.", retry_after=wait))
        status = error.code or 500
        code, message = _WORDS.get(status, ("refused", "The request was refused."))
        problem = Problem(status, code, message)
        problem.headers.update({name: value for name, value in error.get_headers() if name == "Allow"})
        return _answer(problem)

    def _unexpected(self, error: Exception) -> Response:
        """Answer what should not happen; the operator reads about it on standard error, the client does not."""
        self._app.logger.error("request %s failed", g.get("request_id", "-"), exc_info=error)
        return _answer(Problem(500, "internal", "Something went wrong here; the request id tells the operator what."))


def _rate_key() -> str:
    return f"token:{g.token.name}" if g.token else f"peer:{g.client}"


def _authorise(entry: Entry | None, scope: Scope) -> None:
    if entry is None:  # one answer for a missing, an unknown and an expired token
        raise Problem(401, "unauthorised", "Expected a valid token: Authorization: Bearer TOKEN.")
    if scope not in entry.scopes:
        raise Problem(403, "forbidden", f"This token does not have the scope {scope}.")


def _answer(problem: Problem) -> Response:
    body = problem.body(g.request_id)
    return Response(body, problem.status, headers=problem.headers, content_type="application/json")


def _routes(app: Flask, service: Service) -> None:
    @app.post("/predict")
    def predict() -> Response:
        image = _read(service)
        if time.monotonic() - g.begun > service.settings.request_seconds:
            raise timed_out(service.settings.request_seconds)
        g.prediction = prediction = service.model.predict(image)
        answer = {"class": prediction.digit, "model_digest": service.model.digest, "request_id": g.request_id}
        if service.settings.probabilities:
            answer["probabilities"] = [round(share, DECIMALS) for share in prediction.probabilities]
        return jsonify(answer)

    @app.get("/")
    def page() -> str:
        return render_template("page.html", tokens=service.tokens is not None)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(alive=True)

    @app.get("/readyz")
    def readyz() -> Response:
        reasons = service.troubles()
        end = service.log.end
        answer = jsonify(
            ready=not reasons,
            reasons=reasons,
            model_digest=service.model.digest,
            log={"records": end.seq, "last_hash": end.hash},
        )
        answer.status_code = 503 if reasons else 200
        return answer

    @app.get("/metrics", endpoint="metrics")
    def figures() -> Response:
        return Response(service.metrics.text(), content_type=metrics.CONTENT_TYPE)

    @app.get("/openapi.json", endpoint="openapi")
    def document() -> Response:
        return jsonify(openapi.document(service.settings))


def _read(service: Service) -> Tensor:
    """Return the (784,) pixels of a request, whichever way they came."""
    body = request.get_data(cache=True, parse_form_data=False)
    g.input_sha256 = hashlib.sha256(body).hexdigest()
    if request.mimetype == "application/json":
        return pixels.from_json(body, service.settings)
    if request.mimetype in PICTURES:
        return images.from_picture(body, service.settings)
    if request.mimetype == "multipart/form-data":
        part = request.files.get("image")
        if part is None:
            raise malformed('Expected the picture in the field "image".')
        return images.from_picture(part.read(), service.settings)
    raise Problem(415, "unsupported_format", "Expected application/json, image/png, image/jpeg or multipart/form-data.")
