"""The interface as an OpenAPI 3.1 document; a test holds it to the routes."""

from __future__ import annotations

from typing import Any

from model_under_test.serve.settings import Settings

_REFUSALS = {
    "400": "Not JSON at all, or not HTTP",
    "401": "No token, an unknown one or an expired one",
    "403": "The token lacks the scope",
    "413": "Too many bytes, or too many pixels",
    "415": "Not JSON, PNG or JPEG; the content decides",
    "422": "Malformed, out of range, too deep, damaged or empty",
    "429": "Too often; Retry-After says when again",
    "503": "Busy, timed out or not able to record; Retry-After says when again",
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
            "/predict": {"post": _predict(settings)},
            "/": {"get": _get("A page to draw on", "text/html")},
            "/static/{filename}": {"get": _static()},
            "/healthz": {"get": _get("Alive", "application/json")},
            "/readyz": {"get": _get("Ready, or 503 and the reasons", "application/json", "503")},
            "/metrics": {
                "get": {**_get("Figures for Prometheus", "text/plain", "401", "403", "429"), "security": _SECURITY}
            },
            "/openapi.json": {"get": _get("This document", "application/json")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Prediction": _prediction(settings), "Refusal": _refusal()},
        },
    }


def _predict(settings: Settings) -> dict[str, Any]:
    number = {"type": "number", "minimum": 0, "maximum": 1}
    drawing = {
        "type": "object",
        "required": ["pixels"],
        "additionalProperties": False,
        "properties": {"pixels": {"type": "array", "minItems": 784, "maxItems": 784, "items": number}},
    }
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
            "dark, fitted into 20 x 20 and centred by mass in 28 x 28, as MNIST was; ink must differ from paper."
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
            "200": _response("The class", {"$ref": "#/components/schemas/Prediction"}),
            **{status: _refused(text) for status, text in _REFUSALS.items()},
        },
    }


def _prediction(settings: Settings) -> dict[str, Any]:
    shares = {"type": "array", "minItems": 10, "maxItems": 10, "items": {"type": "number", "minimum": 0, "maximum": 1}}
    required = ["class", "model_digest", "request_id"] + (["probabilities"] if settings.probabilities else [])
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": {
            "class": {"type": "integer", "minimum": 0, "maximum": 9},
            "probabilities": shares,
            "model_digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
            "request_id": {"type": "string"},
        },
    }


def _refusal() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "required": ["code", "message"], "properties": {"code": text, "message": text}}
    return {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {"error": error, "request_id": text},
    }


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
    return _response(text, {"$ref": "#/components/schemas/Refusal"})


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
