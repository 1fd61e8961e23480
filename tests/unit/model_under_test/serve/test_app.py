"""The application: every limit holds, every refusal is JSON without internals, and every answer has its record."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from datetime import date

import pytest
import torch

from model_under_test.serve import chain, tokens
from model_under_test.serve.service import BEGUN
from model_under_test.serve.tokens import Scope
from tests.unit.model_under_test.serve.conftest import drawing

PIXELS = {"pixels": [0.5] * 784}
LOG = "audit.jsonl"


def records(tmp_path):
    return [json.loads(line) for line in (tmp_path / LOG).read_bytes().splitlines()]


def error(response):
    """Return the code of a refusal, after holding it to its form."""
    found = response.json
    assert response.content_type == "application/problem+json"
    assert set(found) == {"type", "title", "status", "detail", "code", "error", "request_id"}
    assert (found["type"], found["status"]) == ("about:blank", response.status_code)
    assert response.headers["X-Request-Id"] == found["request_id"]
    return found["code"]


@pytest.fixture
def guarded(make_client, tmp_path):
    """Give a client whose service wants tokens, and one token of each kind."""
    file = tmp_path / "tokens.json"
    made = {
        "reader": tokens.add(file, "reader", (Scope.METRICS,)),
        "alice": tokens.add(file, "alice", (Scope.PREDICT,)),
        "past": tokens.add(file, "past", (Scope.PREDICT,), date(2020, 1, 1), allow_expired=True),
    }
    return make_client(file, rate_per_minute=8), {n: {"Authorization": f"Bearer {t}"} for n, t in made.items()}


def test_json_pixels_are_answered_with_class_probabilities_digest_and_id(make_client, tmp_path):
    client = make_client()
    body = json.dumps(PIXELS).encode()
    response = client.post("/predict", data=body, content_type="application/json")
    assert response.status_code == 200
    assert set(response.json) == {"class", "probabilities", "model_digest", "request_id"}
    direct = client.service.model.predict(torch.full((784,), 0.5))
    assert response.json["class"] == direct.digit
    assert response.json["probabilities"] == [round(share, 4) for share in direct.probabilities]
    assert response.json["model_digest"] == client.service.model.digest
    (record,) = records(tmp_path)
    assert record["request_id"] == response.json["request_id"] == response.headers["X-Request-Id"]
    assert record["input_sha256"] == hashlib.sha256(body).hexdigest()
    assert (record["client"], record["class"], record["status"]) == ("127.0.0.1", direct.digit, 200)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])


def test_probabilities_can_be_withheld(make_client):
    assert set(make_client(probabilities=False).post("/predict", json=PIXELS).json) == {
        "class",
        "model_digest",
        "request_id",
    }


def test_a_picture_is_the_same_as_a_body_and_as_a_field(make_client, tmp_path):
    client, body = make_client(), drawing(7)
    raw = client.post("/predict", data=body, content_type="image/png").json
    form = client.post("/predict", files={"image": ("seven.png", body)}).json
    assert raw["probabilities"] == form["probabilities"]
    assert records(tmp_path)[0]["input_sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        pytest.param(400, "not_json", {"data": b"{", "content_type": "application/json"}, id="not JSON"),
        pytest.param(422, "unprocessable", {"json": {}}, id="another object"),
        pytest.param(415, "unsupported_format", {"data": b"x"}, id="no type"),
        pytest.param(415, "unsupported_format", {"data": b"x", "content_type": "text/plain"}, id="text"),
        pytest.param(415, "unsupported_format", {"data": b"GIF89a", "content_type": "image/png"}, id="a lie"),
        pytest.param(422, "unprocessable", {"files": {"other": ("x", b"x")}}, id="another field"),
        pytest.param(
            422, "unprocessable", {"data": b"x", "content_type": "multipart/form-data"}, id="a form without a boundary"
        ),
        pytest.param(422, "unprocessable", {"files": {f"f{n}": ("x", b"x") for n in range(9)}}, id="many fields"),
        pytest.param(
            413,
            "too_many_pixels",
            {"data": drawing(7, size=(301, 300)), "content_type": "image/png"},
            id="too many pixels",
        ),
        pytest.param(422, "empty", {"data": drawing(7, ink=255), "content_type": "image/png"}, id="empty"),
    ],
)
def test_a_bad_body_is_refused_and_recorded(make_client, tmp_path, status, code, request_):
    response = make_client(body_bytes=50_000, image_pixels=90_000).post("/predict", **request_)
    assert (response.status_code, error(response)) == (status, code)
    (record,) = records(tmp_path)
    assert (record["status"], record["class"], record["request_id"]) == (status, None, response.json["request_id"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused_and_recorded(make_client, tmp_path, method):
    response = make_client().open("/predict", method=method)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert records(tmp_path)[0]["status"] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/predict/",
        "/static/",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/app.py",
        "/.git/config",
        "/templates/page.html",
        "/console",
        "/%00",
        "/static/%00",
        "/" + "a" * 5_000,
        "/%ff",
    ],
)
def test_there_is_nothing_elsewhere(make_client, path):
    response = make_client().get(path)
    assert (response.status_code, error(response)) == (404, "not_found")


def test_without_the_right_token_nothing_is_predicted(guarded, tmp_path):
    client, bearer = guarded
    cases = [({}, 401), ({"Authorization": "Bearer x"}, 401), (bearer["past"], 401), (bearer["reader"], 403)]
    for headers, status in cases:
        response = client.post("/predict", json=PIXELS, headers=headers)
        assert response.status_code == status
        assert ("WWW-Authenticate" in response.headers) == (status == 401)
    assert client.post("/predict", json=PIXELS, headers=bearer["alice"]).status_code == 200
    found = [(one["client"], one["status"], one["input_sha256"] is None) for one in records(tmp_path)]
    assert found == [("127.0.0.1", 401, True)] * 3 + [("reader", 403, True), ("alice", 200, False)]


def test_a_wrong_token_is_told_no_more_than_none(guarded):
    client, bearer = guarded
    answers = [client.post("/predict", headers=headers).json["detail"] for headers in ({}, bearer["past"])]
    assert answers[0] == answers[1]


def test_figures_need_a_token_of_their_own(guarded):
    client, bearer = guarded
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer["alice"]).status_code == 403
    assert client.get("/metrics", headers=bearer["reader"]).status_code == 200


def test_health_and_page_need_none(guarded):
    client, _ = guarded
    for path in ("/", "/healthz", "/readyz", "/openapi.json", "/static/page.js", "/static/page.css"):
        assert client.get(path).status_code == 200


def test_the_rate_is_counted_for_each_client_and_guessing_counts(guarded):
    client, bearer = guarded
    guesses = [client.post("/predict", headers={"Authorization": f"Bearer guess{n}"}) for n in range(10)]
    assert [one.status_code for one in guesses] == [401] * 8 + [429] * 2
    assert error(guesses[-1]) == "too_many_requests"
    assert 1 <= int(guesses[-1].headers["Retry-After"]) <= 61
    alice = [client.post("/predict", json=PIXELS, headers=bearer["alice"]).status_code for _ in range(9)]
    assert alice == [200] * 8 + [429], "whose token is right does not pay for who guesses beside them"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "Client-IP", "Via"])
def test_no_header_makes_another_client(make_client, tmp_path, header):
    client = make_client(rate_per_minute=3)
    found = [client.post("/predict", json=PIXELS, headers={header: f"10.0.0.{n}"}).status_code for n in range(5)]
    assert found == [200, 200, 200, 429, 429]
    assert {one["client"] for one in records(tmp_path)} == {"127.0.0.1"}


def test_clients_do_not_name_their_requests(make_client):
    response = make_client().get("/healthz", headers={"X-Request-Id": "mine"})
    assert response.headers["X-Request-Id"] != "mine"


def test_beyond_what_is_in_flight_the_answer_is_busy_at_once(make_client, tmp_path):
    client = make_client(in_flight=2, client_share=1.0)
    inside, leave = threading.Semaphore(0), threading.Event()
    real = client.service.model.predict

    def slow(pixels):
        inside.release()
        leave.wait(20)
        return real(pixels)

    client.service.model.predict = slow
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.post("/predict", json=PIXELS))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=20)
    response = client.post("/predict", json=PIXELS)
    assert (response.status_code, error(response), response.headers["Retry-After"]) == (503, "busy", "1")
    assert client.get("/healthz").status_code == 200
    leave.set()
    for thread in threads:
        thread.join()
    assert [one.status_code for one in answers] == [200, 200]
    assert client.post("/predict", json=PIXELS).status_code == 200, "places are given back"
    assert [one["status"] for one in records(tmp_path)] == [503, 200, 200, 200]


def test_refused_bodies_give_their_place_back(make_client):
    client = make_client(in_flight=1)
    for _ in range(3):
        assert client.post("/predict", json={}).status_code == 422
    assert client.post("/predict", json=PIXELS).status_code == 200


def test_who_waited_too_long_is_told_so(make_client):
    client = make_client(request_seconds=1.0)
    client.state[BEGUN] = time.monotonic() - 2.0
    response = client.post("/predict", json=PIXELS)
    assert (response.status_code, error(response)) == (503, "timed_out")
    assert "Retry-After" in response.headers


def test_a_failure_inside_stays_inside(make_client, tmp_path):
    client = make_client()
    client.service.model.predict = lambda pixels: 1 / 0
    response = client.post("/predict", json=PIXELS)
    assert (response.status_code, error(response)) == (500, "internal")
    assert not re.search(r"Zero|Traceback|\.py|/", response.json["detail"])
    assert [one["status"] for one in records(tmp_path)] == [500]


def test_without_a_record_there_is_no_answer_and_readiness_is_red(make_client, tmp_path):
    client = make_client()
    (tmp_path / LOG).write_bytes(b"{}\n")
    response = client.post("/predict", json=PIXELS)
    assert (response.status_code, error(response)) == (503, "log_unavailable")
    assert "class" not in response.json
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json["reasons"] == ["the audit log was changed by somebody else"]
    assert b"serve_ready 0.0" in client.get("/metrics").data
    assert client.get("/healthz").status_code == 200


def test_readiness_turns_red_with_the_weights_and_answers_stay(make_client, weights):
    client = make_client()
    assert client.get("/readyz").json["ready"]
    before = client.post("/predict", json=PIXELS).json["probabilities"]
    content = (weights / "w.safetensors").read_bytes()
    (weights / "w.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["reasons"]) == (503, ["the weight file is no longer the verified one"])
    assert client.post("/predict", json=PIXELS).json["probabilities"] == before


def test_readiness_offers_the_hash_to_note(make_client, tmp_path):
    client = make_client()
    client.post("/predict", json=PIXELS)
    found = client.get("/readyz").json["log"]
    assert found["records"] == 1
    assert chain.verify(tmp_path / LOG, found["last_hash"]) == 1


def test_every_answer_carries_the_headers(make_client):
    client = make_client()
    for path in ("/", "/static/page.js", "/healthz", "/nothing", "/predict", "/openapi.json", "/metrics"):
        response = client.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
        assert "Server" not in response.headers
        assert "Set-Cookie" not in response.headers


def test_the_page_has_nothing_inline(make_client):
    page = make_client().get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>([^<]*)", page) == [""]
    assert not re.search(r"https?://", page)


def test_figures_show_status_classes_confidence_and_records(make_client):
    client = make_client()
    digit = client.post("/predict", json=PIXELS).json["class"]
    client.post("/predict", json={})
    text = client.get("/metrics").text
    for line in (
        'serve_requests_total{endpoint="predict",status="200"} 1.0',
        'serve_requests_total{endpoint="predict",status="422"} 1.0',
        f'serve_predictions_total{{digit="{digit}"}} 1.0',
        "serve_confidence_count 1.0",
        "serve_request_seconds_count 2.0",
        "serve_log_records 2.0",
        "serve_log_unrecorded 0.0",
        "serve_in_flight 0.0",
        "serve_ready 1.0",
    ):
        assert line in text.splitlines()


def test_the_picture_that_the_network_saw_is_shown(make_client):
    client = make_client()
    said = client.post("/v1/predict", data=drawing(7), content_type="image/png").json
    seen = torch.tensor(list(base64.b64decode(said["seen"]))) / 255
    direct = client.service.model.predict(seen)
    assert (direct.digit, len(seen)) == (said["class"], 784)
    assert direct.probabilities == pytest.approx(said["probabilities"], abs=0.02)


def test_several_images_have_an_answer_and_a_record_each_and_cost_as_many_requests(make_client, tmp_path):
    client = make_client(rate_per_minute=5)
    images = {"images": [[0.0] * 784, PIXELS["pixels"], [1.0] * 784]}
    said = client.post("/v1/predict", json=images).json
    alone = [client.service.model.predict(torch.tensor(one)).digit for one in images["images"]]
    assert [one["class"] for one in said["predictions"]] == alone
    found = records(tmp_path)
    assert [(one["request_id"], one["image"], one["class"]) for one in found] == [
        (said["request_id"], index, digit) for index, digit in enumerate(alone)
    ]
    assert all(0.1 <= one["confidence"] <= 1 for one in found)
    response = client.post("/v1/predict", json=images)
    assert (response.status_code, error(response)) == (429, "too_many_requests")


def test_more_images_than_are_allowed_are_refused(make_client):
    response = make_client(images=2).post("/predict", json={"images": [[0.0] * 784] * 3})
    assert response.status_code == 422


def test_one_client_cannot_take_every_place(make_client, tmp_path):
    file = tmp_path / "tokens.json"
    alice, bob = ({"Authorization": f"Bearer {tokens.add(file, name, (Scope.PREDICT,))}"} for name in ("alice", "bob"))
    client = make_client(file, in_flight=2, client_share=0.5)
    inside, leave, real = threading.Semaphore(0), threading.Event(), client.service.model.predict

    def slow(pixels):
        inside.release()
        leave.wait(20)
        return real(pixels)

    client.service.model.predict = slow
    thread = threading.Thread(target=lambda: client.post("/predict", json=PIXELS, headers=alice))
    thread.start()
    assert inside.acquire(timeout=20)
    assert client.post("/predict", json=PIXELS, headers=alice).status_code == 503
    leave.set()
    assert client.post("/predict", json=PIXELS, headers=bob).status_code == 200
    thread.join()


def test_whoever_floods_with_refusals_is_counted_and_their_records_are_folded(make_client, tmp_path):
    client = make_client(rate_per_minute=40)
    answers = [client.open("/predict", "DELETE") for _ in range(60)]
    assert [one.status_code for one in answers] == [405] * 40 + [429] * 20
    assert answers[-1].headers["Connection"] == "close"
    assert len(records(tmp_path)) == 10, "the first ones have a line each"
    client.service.tick(end=True)
    folded = records(tmp_path)[10:]
    assert {(one["status"], one["count"], one["client"]) for one in folded} == {
        (405, 30, "127.0.0.1"),
        (429, 20, "127.0.0.1"),
    }
    assert chain.verify(tmp_path / LOG) == 12


def test_failed_authentications_are_counted_over_all_addresses_and_a_valid_token_is_let_in(guarded):
    client, bearer = guarded
    for _ in range(80):
        client.service.rates.failed()
    assert client.post("/predict", json=PIXELS).status_code == 429
    assert client.post("/predict", json=PIXELS, headers=bearer["alice"]).status_code == 200


def test_wrong_tokens_are_counted_wherever_they_are_sent_and_nobody_else_there(guarded):
    client, _ = guarded
    asked = [client.get("/readyz", headers={"Authorization": f"Bearer wrong{n}"}).status_code for n in range(12)]
    assert asked[0] == 200
    assert asked[-1] == 429
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:81", "https://127.0.0.1.evil.example"]
)
def test_pages_of_other_origins_are_refused(make_client, origin):
    response = make_client().post("/predict", json=PIXELS, headers={"Origin": origin})
    assert (response.status_code, error(response)) == (403, "foreign_origin")


def test_the_own_page_is_not(make_client):
    assert make_client().post("/predict", json=PIXELS, headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_readiness_tells_everybody_its_status_and_only_readers_of_figures_the_rest(guarded):
    client, bearer = guarded
    assert client.get("/readyz").json == {"ready": True}
    assert client.get("/readyz", headers=bearer["alice"]).json == {"ready": True}
    assert set(client.get("/readyz", headers=bearer["reader"]).json) == {"ready", "reasons", "model_digest", "log"}


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("given", "back"), [(TRACE, TRACE), (TRACE.upper(), None), ("x", None), (f"ff{TRACE[2:]}", None)]
)
def test_a_well_formed_trace_is_given_back(make_client, given, back):
    assert make_client().get("/healthz", headers={"traceparent": given}).headers.get("traceparent") == back
