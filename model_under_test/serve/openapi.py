"""The interface as an OpenAPI 3.1 document; a test holds it to the routes."""

from __future__ import annotations

from typing import Any

from model_under_test.serve import problems
from model_under_test.serve.settings import Settings

_REFUSALS = {
    "400": "Not JSON at all, or not HTTP as it is spoken here",
    "401": "No token, an unknown one or an expired one",
    "403": "The token lacks the scope",
    "413": "Too many bytes, or too many pixels",
    "415": "Not JSON, PNG or JPEG (the content decides), or compressed for the transport",
    "421": "Addressed to a host that this server does not answer for",
    "422": "Malformed, out of range, too deep, damaged or empty",
    "429": "Too often; Retry-After says when again",
    "503": "Busy, timed out or not able to record; Retry-After says when again",
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_CLASS: dict[str, Any] = {
    "class": {"type": "integer", "minimum": 0, "maximum": 9},
    "probabilities": {"type": "array", "minItems": 10, "maxItems": 10, "items": _SHARE},
}
_ABOUT: dict[str, Any] = {
    "model_digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "request_id": {"type": "string"},
}
_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {}]


def document(settings: Settings) -> dict[str, Any]:
    """Return the document; the limits in it are those of ``settings``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Handwritten digits",
            "version": "1.0.0",
            "description": "Ten probabilities for a picture of a digit. A token is needed unless the server runs open.",
        },
        "paths": {
            "/v1/predict": {"post": _predict(settings)},
            "/predict": {"post": {**_predict(settings), "summary": "The same as /v1/predict"}},
            "/": {"get": _get("A page to draw on", "text/html")},
            "/static/{filename}": {"get": _static()},
            "/healthz": {"get": _get("Alive", "application/json")},
            "/readyz": {"get": _get("Ready, or 503 and the reasons", "application/json", "503")},
            "/metrics": {
                "get": {**_get("Figures for Prometheus", "text/plain", "401", "403", "429"), "security": _SECURITY}
            },
            "/openapi.json": {"get": _get("This document", "application/json")},
            "/openapi": {"get": _get("This document to read", "text/html")},
            **_inference(settings),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Prediction": _prediction(settings),
                "Predictions": _predictions(settings),
                "Problem": _problem(),
            },
        },
    }


def _predict(settings: Settings) -> dict[str, Any]:
    image = {"type": "array", "minItems": 784, "maxItems": 784, "items": _SHARE}
    images = {"type": "array", "minItems": 1, "maxItems": settings.images, "items": image}
    drawing = {"oneOf": [_object({"pixels": image}, ["pixels"]), _object({"images": images}, ["images"])]}
    picture: dict[str, Any] = {"schema": {"type": "string", "maxLength": settings.body_bytes}}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "contentMediaType": "image/png"}},
    }
    return {
        "summary": "Classify one digit",
        "description": (
            "JSON pixels are seen by the network exactly as they are, row by row. Pictures are turned grey, light on "
            "dark, fitted into 20 x 20 and centred by mass in 28 x 28, as MNIST was; ink must differ from paper. "
            "Several images in one request count as so many requests."
        ),
        "security": _SECURITY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": drawing},
                "image/png": picture,
                "image/jpeg": picture,
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {
            "200": _response(
                "The class, or one for each image",
                {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Prediction", "Predictions")]},
            ),
            **{status: _refused(text) for status, text in _REFUSALS.items()},
        },
    }


def _prediction(settings: Settings) -> dict[str, Any]:
    required = ["class", *(["probabilities"] if settings.probabilities else []), "model_digest", "request_id"]
    seen = {"type": "string", "contentEncoding": "base64", "description": "28 x 28 bytes, as the network saw a picture"}
    return _object({**_CLASS, **_ABOUT, "seen": seen}, required)


def _predictions(settings: Settings) -> dict[str, Any]:
    each = _object(_CLASS, ["class", *(["probabilities"] if settings.probabilities else [])])
    found = {"type": "array", "minItems": 2, "maxItems": settings.images, "items": each}
    return _object({"predictions": found, **_ABOUT}, ["predictions", *_ABOUT])


def _problem() -> dict[str, Any]:
    """Return RFC 9457's members, and ours."""
    text = {"type": "string"}
    members = {name: text for name in ("type", "title", "detail", "code", "error", "request_id")}
    return _object({**members, "status": {"type": "integer"}}, [*members, "status"])


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def _inference(settings: Settings) -> dict[str, Any]:
    """Return the addresses of the Open Inference Protocol, whose specification says what is in the bodies."""
    model = f"/v2/models/{settings.model_name}"
    found: dict[str, Any] = {"/v2": {"get": _get("About this server", "application/json")}}
    found["/v2/health/live"] = {"get": _get("Alive", "application/json")}
    found["/v2/health/ready"] = {"get": _get("Ready, or 503", "application/json", "503")}
    for place in (model, f"{model}/versions/1"):
        found[place] = {"get": _get("About the model", "application/json")}
        found[f"{place}/ready"] = {"get": _get("Ready, or 503", "application/json", "503")}
        refused = {status: _refused(text) for status, text in _REFUSALS.items()}
        found[f"{place}/infer"] = {
            "post": {
                "summary": "Classify digits, in the Open Inference Protocol",
                "security": _SECURITY,
                "requestBody": {"required": True, "content": {"application/json": {}, "application/octet-stream": {}}},
                "responses": {"200": _response("Classes and probabilities", {"type": "object"}), **refused},
            }
        }
    return found


def _get(summary: str, media: str, *refusals: str) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": summary, "content": {media: {}}}}
    responses.update({status: _refused(_REFUSALS[status]) for status in refusals if status != "503"})
    if "503" in refusals:
        responses["503"] = {"description": "Not ready", "content": {media: {}}}
    return {"summary": summary, "responses": responses}


def _static() -> dict[str, Any]:
    name = {"name": "filename", "in": "path", "required": True, "schema": {"type": "string"}}
    found = _get("Script and style of the page", "text/javascript")
    return {**found, "parameters": [name], "responses": {**found["responses"], "404": _refused("No such file")}}


def _refused(text: str) -> dict[str, Any]:
    return _response(text, {"$ref": "#/components/schemas/Problem"}, problems.MEDIA_TYPE)


def _response(text: str, schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema}}}
