"""The Open Inference Protocol, version 2, over HTTP: what KServe, Triton and their clients speak.

Specification: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; raw numbers behind
the JSON are its binary tensor data extension (Inference-Header-Content-Length), which tritonclient uses by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from starlette.responses import JSONResponse, Response
from torch import Tensor

from model_under_test.serve import pixels
from model_under_test.serve.app import PREDICTING, Application, Endpoint, Exchange
from model_under_test.serve.model import Prediction
from model_under_test.serve.problems import Problem, bad_request, malformed
from model_under_test.serve.service import DECIMALS, Service
from model_under_test.serve.settings import Settings
from model_under_test.serve.tokens import Scope

NAME, VERSION, MODEL_VERSION = "model_under_test", "1", "1"
INPUT, CLASS, PROBABILITIES = "pixels", "class", "probabilities"
SHAPES = ([pixels.PIXELS], [1, 28, 28], [28, 28])  # of one image, behind the number of images
EXTENSION = "binary_tensor_data"
TAKEN = ("application/json", "application/octet-stream", "")  # tritonclient names none for plain JSON
LONGEST_ID = 128
HEADER = "inference-header-content-length"


def table(app: Application) -> Mapping[str, Endpoint]:
    """Return the addresses of the protocol; there is one model, in one version."""
    service = app.service
    ready = Endpoint("v2", partial(_ready, app))
    model, places = f"/v2/models/{service.settings.model_name}", dict[str, Endpoint]()
    for place in (model, f"{model}/versions/{MODEL_VERSION}"):
        places[place] = Endpoint("v2", partial(_model, service))
        places[f"{place}/ready"] = ready
        places[f"{place}/infer"] = Endpoint("infer", partial(_infer, app), PREDICTING, Scope.PREDICT)
    return {
        "/v2": Endpoint("v2", _server),
        "/v2/health/live": Endpoint("v2", _live),
        "/v2/health/ready": ready,
    } | places


async def _server(exchange: Exchange) -> Response:
    return JSONResponse({"name": NAME, "version": VERSION, "extensions": [EXTENSION]})


async def _live(exchange: Exchange) -> Response:
    return JSONResponse({"live": True})


async def _ready(app: Application, exchange: Exchange) -> Response:
    ready = not await app.mind(app.service.troubles)
    return JSONResponse({"name": app.service.settings.model_name, "ready": ready}, 200 if ready else 503)


async def _model(service: Service, exchange: Exchange) -> Response:
    outputs = [{"name": CLASS, "datatype": "INT64", "shape": [-1]}]
    if service.settings.probabilities:
        outputs.append({"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, 10]})
    return JSONResponse(
        {
            "name": service.settings.model_name,
            "versions": [MODEL_VERSION],
            "platform": "undisclosed",
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, pixels.PIXELS]}],
            "outputs": outputs,
            "parameters": {"model_digest": service.model.digest},
        }
    )


async def _infer(app: Application, exchange: Exchange) -> Response:
    header = exchange.request.headers.get(HEADER)
    if exchange.media_type not in TAKEN:
        raise Problem(415, "unsupported_format", "Expected application/json, with binary tensors behind it or without.")
    asked: dict[str, Any] = {}
    _, predictions = await app.predict(exchange, partial(_read, app.service.settings, header, asked))
    outputs = _outputs(app.service, predictions, asked)
    answer: dict[str, Any] = {
        "model_name": app.service.settings.model_name,
        "model_version": MODEL_VERSION,
        "outputs": outputs,
    }
    if "id" in asked:
        answer["id"] = asked["id"]
    answer["parameters"] = {"model_digest": app.service.model.digest, "request_id": exchange.request_id}
    return JSONResponse(answer)


def _read(settings: Settings, header: str | None, asked: dict[str, Any], body: bytes) -> Tensor:
    """Return the (n, 784) images of a request, and leave in ``asked`` what else it says.

    Raises:
        Problem: 400 for what is not JSON, 413 for too much, 422 for another shape, type or name.
    """
    length = len(body) if header is None else int(header) if header.isdecimal() and len(header) < 10 else -1
    if not 0 <= length <= len(body):
        raise bad_request("Expected the length of the JSON in Inference-Header-Content-Length.")
    found = pixels.parse(body[:length], settings)
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), list) or len(found["inputs"]) != 1:
        raise malformed('Expected an object with one tensor in "inputs".')
    tensor = found["inputs"][0]
    if not isinstance(tensor, dict) or (tensor.get("name"), tensor.get("datatype")) != (INPUT, "FP32"):
        raise malformed(f'Expected one input named "{INPUT}" of datatype FP32.')
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not shape
        or shape[1:] not in SHAPES
        or shape[0] not in range(1, settings.images + 1)
    ):
        raise malformed(f"Expected a shape of [n, {pixels.PIXELS}], with n from 1 to {settings.images}.")
    asked.update(_beside(found))
    return _numbers(tensor, int(shape[0]), body[length:], settings)


def _beside(found: dict[str, Any]) -> dict[str, Any]:
    """Return the id of a request and the names of the outputs that it asks for, as far as it has them."""
    said, outputs = found.get("id", ""), found.get("outputs", [])
    if not isinstance(said, str) or len(said) > LONGEST_ID:
        raise malformed(f"Expected an id of at most {LONGEST_ID} characters.")
    if not isinstance(outputs, list):
        raise malformed("Expected a list of outputs.")
    names = [one.get("name") if isinstance(one, dict) else None for one in outputs]
    if not all(name in (CLASS, PROBABILITIES) for name in names):
        raise malformed(f'Expected outputs named "{CLASS}" or "{PROBABILITIES}".')
    return ({"id": said} if said else {}) | ({"outputs": names} if names else {})


def _numbers(tensor: dict[str, Any], count: int, raw: bytes, settings: Settings) -> Tensor:
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        data = _flat(tensor.get("data"))
        if len(data) != count * pixels.PIXELS:
            raise malformed(f"Expected {count * pixels.PIXELS} numbers as data, got {len(data)}.")
        return pixels.checked([data[at : at + pixels.PIXELS] for at in range(0, len(data), pixels.PIXELS)], settings)
    if size != len(raw) or len(raw) != 4 * count * pixels.PIXELS:
        raise malformed(f"Expected {4 * count * pixels.PIXELS} bytes behind the JSON, got {len(raw)}.")
    found = torch.from_numpy(np.frombuffer(raw, dtype="<f4").astype(np.float32)).reshape(count, pixels.PIXELS)
    if not bool(((found >= 0) & (found <= 1)).all()):  # false for NaN
        raise malformed("Expected numbers in [0, 1].")
    return found


def _flat(data: Any) -> list[Any]:
    """Return nested lists as one."""
    if not isinstance(data, list):
        raise malformed('Expected numbers in "data".')
    flat, left = [], data[::-1]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left.extend(reversed(one))
        else:
            flat.append(one)
    return flat


def _outputs(service: Service, predictions: list[Prediction], asked: dict[str, Any]) -> list[dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {
        CLASS: {"datatype": "INT64", "shape": [len(predictions)], "data": [one.digit for one in predictions]}
    }
    if service.settings.probabilities:
        shares = [round(share, DECIMALS) for one in predictions for share in one.probabilities]
        known[PROBABILITIES] = {"datatype": "FP32", "shape": [len(predictions), 10], "data": shares}
    return [{"name": name, **known[name]} for name in asked.get("outputs", known) if name in known]
