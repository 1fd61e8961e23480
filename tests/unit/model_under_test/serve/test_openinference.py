"""The Open Inference Protocol, as its specification and its clients speak it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.unit.model_under_test.serve.test_app import error, records

MODEL = "/v2/models/digits"
IMAGES = np.linspace(0, 1, 2 * 784, dtype=np.float32).reshape(2, 784)
TENSOR = {"name": "pixels", "datatype": "FP32", "shape": [2, 784], "data": IMAGES.ravel().tolist()}


def binary(said, raw):
    """Return body and headers of a request with a binary tensor behind the JSON."""
    head = json.dumps(said).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return {"data": head + raw, "headers": headers, "content_type": "application/octet-stream"}


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.mark.parametrize("place", [MODEL, f"{MODEL}/versions/1"])
def test_images_are_answered_in_a_tensor_each(client, tmp_path, place):
    said = client.post(f"{place}/infer", json={"id": "mine", "inputs": [TENSOR]}).json
    direct = [client.service.model.predict(torch.tensor(one)) for one in IMAGES]
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "digits", "1")
    first, second = said["outputs"]
    assert first == {"name": "class", "datatype": "INT64", "shape": [2], "data": [one.digit for one in direct]}
    assert (second["name"], second["shape"]) == ("probabilities", [2, 10])
    assert second["data"] == pytest.approx([share for one in direct for share in one.probabilities], abs=1e-4)
    assert [one["class"] for one in records(tmp_path)] == first["data"]


def test_a_binary_tensor_says_the_same_as_numbers(client):
    described = {**TENSOR, "parameters": {"binary_data_size": IMAGES.nbytes}}
    del described["data"]
    raw = client.post(f"{MODEL}/infer", **binary({"inputs": [described]}, IMAGES.astype("<f4").tobytes()))
    assert raw.status_code == 200
    assert raw.json["outputs"] == client.post(f"{MODEL}/infer", json={"inputs": [TENSOR]}).json["outputs"]


def test_json_needs_no_content_type(client):
    assert client.post(f"{MODEL}/infer", data=json.dumps({"inputs": [TENSOR]}).encode()).status_code == 200
    assert client.post(f"{MODEL}/infer", data=b"{}", content_type="text/html").status_code == 415


@pytest.mark.parametrize("shape", [[2, 28, 28], [2, 1, 28, 28]])
def test_images_may_have_rows_and_a_channel(client, shape):
    nested = IMAGES.reshape(shape).tolist()
    tensor = {**TENSOR, "shape": shape, "data": nested}
    assert client.post(f"{MODEL}/infer", json={"inputs": [tensor]}).status_code == 200


def test_only_the_outputs_that_are_asked_for_are_answered(client):
    asked = {"inputs": [TENSOR], "outputs": [{"name": "class"}]}
    assert [one["name"] for one in client.post(f"{MODEL}/infer", json=asked).json["outputs"]] == ["class"]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="nothing"),
        pytest.param([], id="a list"),
        pytest.param({"inputs": []}, id="no tensor"),
        pytest.param({"inputs": [TENSOR, TENSOR]}, id="two tensors"),
        pytest.param({"inputs": [{**TENSOR, "name": "x"}]}, id="another name"),
        pytest.param({"inputs": [{**TENSOR, "datatype": "FP64"}]}, id="another type"),
        pytest.param({"inputs": [{**TENSOR, "shape": [3, 784]}]}, id="another number"),
        pytest.param({"inputs": [{**TENSOR, "shape": [2, 783]}]}, id="another shape"),
        pytest.param({"inputs": [{**TENSOR, "shape": [0, 784], "data": []}]}, id="no image"),
        pytest.param({"inputs": [{**TENSOR, "shape": [17, 784], "data": [0] * 17}]}, id="too many images"),
        pytest.param({"inputs": [{**TENSOR, "shape": "2"}]}, id="no shape"),
        pytest.param({"inputs": [{**TENSOR, "data": [2.0] * 1568}]}, id="out of range"),
        pytest.param({"inputs": [{**TENSOR, "data": "x"}]}, id="no numbers"),
        pytest.param({"inputs": [{**TENSOR, "data": [None] * 1568}]}, id="nothing for numbers"),
        pytest.param({"inputs": [TENSOR], "outputs": [{"name": "x"}]}, id="another output"),
        pytest.param({"inputs": [TENSOR], "outputs": "class"}, id="outputs that are none"),
        pytest.param({"inputs": [TENSOR], "outputs": ["class"]}, id="an output that is none"),
        pytest.param({"inputs": [TENSOR], "id": 5}, id="an id that is none"),
        pytest.param({"inputs": [TENSOR], "id": "x" * 200}, id="a long id"),
    ],
)
def test_anything_else_is_refused_where_its_clients_look(client, tmp_path, said):
    response = client.post(f"{MODEL}/infer", json=said)
    assert (response.status_code, error(response)) == (422, "unprocessable")
    assert response.json["error"] == response.json["detail"]
    assert [one["status"] for one in records(tmp_path)] == [422]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(IMAGES.tobytes()[:-1], 422, id="a byte less"),
        pytest.param(IMAGES.tobytes() + b"x", 422, id="a byte more"),
        pytest.param(np.full(1568, np.nan, "<f4").tobytes(), 422, id="not numbers"),
        pytest.param((IMAGES + 1).tobytes(), 422, id="out of range"),
    ],
)
def test_binary_tensors_are_held_to_their_size_and_range(client, raw, status):
    described = {**TENSOR, "parameters": {"binary_data_size": IMAGES.nbytes}}
    assert client.post(f"{MODEL}/infer", **binary({"inputs": [described]}, raw)).status_code == status


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "100000"])
def test_a_length_of_the_json_that_cannot_be_is_refused(client, length):
    request = binary({"inputs": [TENSOR]}, b"")
    request["headers"]["Inference-Header-Content-Length"] = length
    assert client.post(f"{MODEL}/infer", **request).status_code == 400


def test_health_and_metadata_need_no_token(client):
    assert client.get("/v2").json["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == client.get(f"{MODEL}/ready").status_code == 200
    found = client.get(MODEL).json
    assert (found["name"], found["versions"]) == ("digits", ["1"])
    assert found["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 784]}]
    assert [one["name"] for one in found["outputs"]] == ["class", "probabilities"]
    assert client.get("/v2/models/other").status_code == 404


def test_probabilities_can_be_withheld(make_client):
    client = make_client(probabilities=False)
    assert [one["name"] for one in client.get(MODEL).json["outputs"]] == ["class"]
    asked = {"inputs": [TENSOR], "outputs": [{"name": "probabilities"}]}
    assert client.post(f"{MODEL}/infer", json=asked).json["outputs"] == []


def test_readiness_follows_the_server(client):
    client.service.draining = True
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200
