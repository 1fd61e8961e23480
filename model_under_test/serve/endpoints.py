"""What is at which address. A handler takes an exchange and returns a response, or raises a Problem."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from python_multipart.exceptions import MultipartParseError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, Response
from torch import Tensor

from model_under_test.serve import images, metrics, openapi, openinference, pixels
from model_under_test.serve.app import PREDICTING, Application, Endpoint, Exchange
from model_under_test.serve.model import Prediction
from model_under_test.serve.problems import Problem, malformed
from model_under_test.serve.service import DECIMALS, Service
from model_under_test.serve.tokens import Scope

PICTURES = frozenset({"image/png", "image/jpeg"})
FIELDS = 4  # of a form, at most
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HERE = Path(__file__).parent


def table(app: Application) -> Mapping[str, Endpoint]:
    """Return every address that there is."""
    service = app.service
    predict = Endpoint("predict", partial(_predict, app), PREDICTING, Scope.PREDICT)
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    page = templates.get_template("page.html").render(tokens=service.tokens is not None)
    document = openapi.document(service.settings)
    explained = templates.get_template("openapi.html").render(document=document)
    return {
        "/": Endpoint("page", partial(_constant, page.encode(), "text/html")),
        "/predict": predict,
        "/v1/predict": predict,
        "/healthz": Endpoint("healthz", _alive),
        "/readyz": Endpoint("readyz", partial(_ready, app)),
        "/metrics": Endpoint("metrics", partial(_figures, app), scope=Scope.METRICS),
        "/openapi": Endpoint("openapi", partial(_constant, explained.encode(), "text/html")),
        "/openapi.json": Endpoint(
            "openapi", partial(_constant, json.dumps(document).encode() + b"\n", "application/json")
        ),
        **{
            f"/static/{file.name}": Endpoint("static", partial(_constant, file.read_bytes(), TYPES[file.suffix]))
            for file in sorted((_HERE / "static").iterdir())
        },
        **openinference.table(app),
    }


async def _constant(content: bytes, media_type: str, exchange: Exchange) -> Response:
    return Response(content, media_type=media_type)


async def _alive(exchange: Exchange) -> Response:
    return JSONResponse({"alive": True})


async def _ready(app: Application, exchange: Exchange) -> Response:
    """Tell everybody whether the service is ready, and those who may read the figures why not."""
    service = app.service
    reasons = await app.mind(service.troubles)
    said: dict[str, Any] = {"ready": not reasons}
    if service.tokens is None or (exchange.token and Scope.METRICS in exchange.token.scopes):
        end = service.log.end
        said |= {"reasons": reasons, "model_digest": service.model.digest}
        said["log"] = {"records": end.seq, "last_hash": end.hash, "room_bytes": service.log.room}
    return JSONResponse(said, 503 if reasons else 200)


async def _figures(app: Application, exchange: Exchange) -> Response:
    return Response(await app.mind(app.service.metrics.text), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _predict(app: Application, exchange: Exchange) -> Response:
    settings, kind, content = app.service.settings, exchange.media_type, None
    if kind == "multipart/form-data":
        content = await _field(exchange)
    elif kind != "application/json" and kind not in PICTURES:
        expected = "Expected application/json, image/png, image/jpeg or multipart/form-data."
        raise Problem(415, "unsupported_format", expected)

    def read(body: bytes) -> Tensor:
        if kind == "application/json":
            return pixels.from_json(body, settings)
        return images.from_picture(body if content is None else content, settings).unsqueeze(0)

    shown, predictions = await app.predict(exchange, read)
    return _answer(app.service, exchange, shown, predictions, seen=kind != "application/json")


async def _field(exchange: Exchange) -> bytes:
    """Return the picture in the field "image" of a form."""
    await exchange.request.body()
    try:
        async with exchange.request.form(max_files=1, max_fields=FIELDS) as form:
            part = form.get("image")
            if part is None or isinstance(part, str):
                raise malformed('Expected the picture in the field "image".')
            return await part.read()
    except (HTTPException, MultiPartException, MultipartParseError, KeyError, ValueError) as error:
        raise malformed('Expected a form with one picture, in the field "image".') from error


def _answer(
    service: Service, exchange: Exchange, shown: Tensor, predictions: list[Prediction], *, seen: bool
) -> Response:
    said = [_said(service, prediction) for prediction in predictions]
    answer: dict[str, Any] = said[0] if len(said) == 1 else {"predictions": said}
    if seen:
        answer["seen"] = base64.b64encode((shown[0] * 255).round().byte().numpy().tobytes()).decode()
    return JSONResponse(answer | {"model_digest": service.model.digest, "request_id": exchange.request_id})


def _said(service: Service, prediction: Prediction) -> dict[str, Any]:
    said: dict[str, Any] = {"class": prediction.digit}
    if service.settings.probabilities:
        said["probabilities"] = [round(share, DECIMALS) for share in prediction.probabilities]
    return said
