"""The document says what the routes are, and what they answer."""

from __future__ import annotations

import re

import jsonschema
import pytest

from model_under_test.serve.endpoints import table
from tests.unit.model_under_test.serve.test_app import PIXELS


@pytest.fixture
def client(make_client):
    return make_client()


def schema(client, name):
    document = client.get("/openapi.json").json
    return {**document["components"]["schemas"][name], "components": document["components"]}


def test_every_route_is_in_it_and_nothing_else(client):
    routes = {
        (re.sub("^/static/.*", "/static/{filename}", path), method.lower())
        for path, endpoint in table(client.application).items()
        for method in set(endpoint.methods) - {"HEAD"}
    }
    paths = client.get("/openapi.json").json["paths"]
    assert routes == {(path, method) for path, methods in paths.items() for method in methods}


def test_it_is_of_the_version_it_says(client):
    document = client.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {
        *("200", "400", "401", "403", "413", "415", "421", "422", "429", "503")
    }


def test_answers_are_what_it_says(client):
    jsonschema.validate(client.post("/predict", json=PIXELS).json, schema(client, "Prediction"))
    jsonschema.validate(client.post("/predict", json={}).json, schema(client, "Problem"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"class": 11}, schema(client, "Prediction"))


def test_what_it_asks_for_is_what_is_taken(client):
    wanted = client.get("/openapi.json").json["paths"]["/predict"]["post"]["requestBody"]["content"]
    jsonschema.validate(PIXELS, wanted["application/json"]["schema"])
    assert set(wanted) == {"application/json", "image/png", "image/jpeg", "multipart/form-data"}


def test_several_images_are_answered_as_it_says(client):
    said = client.post("/predict", json={"images": [PIXELS["pixels"]] * 2}).json
    jsonschema.validate(said, schema(client, "Predictions"))


def test_it_can_be_read(client):
    page = client.get("/openapi")
    assert page.content_type.startswith("text/html")
    assert all(path in page.text for path in ("/v1/predict", "/v2/models/digits/infer", "/metrics"))
