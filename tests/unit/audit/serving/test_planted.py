"""Secrets are found in every form; what an honest server says is none."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from audit.serving import origins, planted
from audit.serving.bench import Tried
from audit.serving.client import Answer, request

SECRET = "-".join(("s3cr3t", "Value", "0123456789"))


def heard(answer, judge=None, **secrets):
    """Return what a listener finds in an answer."""
    tried = Tried()
    server = SimpleNamespace(port=8000, send=lambda sent: answer)
    listener = planted.Listener(server, tried, secrets or {"a secret": SECRET})
    (judge or (lambda one: one.get("/")))(listener)
    return tried.counts


@pytest.mark.parametrize(
    "said",
    [SECRET, SECRET.upper(), SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode(), SECRET[::-1]],
)
def test_a_secret_is_found_in_body_and_headers(said):
    assert heard(Answer(200, (), said.encode())) == {"secret told": 1}
    assert heard(Answer(404, (("X-What", said),), b"")) == {"secret told": 1}


def test_what_is_no_secret_is_not_found():
    assert heard(Answer(200, (("X-Request-Id", "a1"),), b"s3cr3t")) == {}
    assert heard(Answer(200, (), b"/"), short="/") == {}


@pytest.mark.parametrize(
    "location", ["/", "/predict", "predict", "?a", "http://127.0.0.1:8000/x", "http://localhost/x"]
)
def test_a_redirect_that_stays_here_is_in_order(location):
    assert heard(Answer(308, (("Location", location),), b"")) == {}


@pytest.mark.parametrize(
    "location",
    [
        "//other.example",
        "/\\other.example",
        "https://other.example/",
        "http://127.0.0.1.other.example/",
        "javascript:x",
    ],
)
def test_a_redirect_to_elsewhere_is_found(location):
    assert heard(Answer(308, (("Location", location),), b"")) == {"redirects elsewhere": 1}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"ready": True}, []),
        ({"ready": False, "status": 503}, []),
        ({"ready": True, "log": {"records": 12}}, ["records: 12"]),
        ({"ready": True, "space": [1.5]}, ["space: 1.5"]),
        ({"ready": True, "request_id": "12ab"}, []),
    ],
)
def test_readiness_tells_no_numbers(body, expected):
    assert planted.figures(Answer(503, (), json.dumps(body).encode())) == expected


def test_a_text_about_readiness_tells_no_numbers_either():
    assert planted.figures(Answer(200, (), b"ok")) == []
    assert planted.figures(Answer(200, (), b"ok, 12 records")) == ["b'ok, 12 records'"]


def test_no_strange_host_is_ours():
    strange = list(origins.strange_hosts("mark", 8000))
    assert len(strange) == len(set(strange)) > 10
    assert all("mark" in host for host in strange)


def test_no_foreign_origin_is_ours():
    foreign = list(origins.foreign_origins("127.0.0.1:8000"))
    assert len(foreign) == len(set(foreign)) > 8
    assert not {"http://127.0.0.1:8000", "https://127.0.0.1:8000"} & set(foreign)


@pytest.mark.parametrize(
    ("allowed", "credentials", "found"),
    [
        (None, None, False),
        ("https://ours.example", None, False),
        ("*", None, True),
        ("null", None, True),
        ("https://other.example", None, True),
        ("https://other.example", "true", True),
    ],
)
def test_a_foreign_origin_that_may_read_is_found(allowed, credentials, found):
    headers = {"Access-Control-Allow-Origin": allowed, "Access-Control-Allow-Credentials": credentials}
    answer = Answer(200, tuple((name, value) for name, value in headers.items() if value), b"")
    said = origins.allowed_origin(answer, "https://other.example")
    assert (said is not None) is found
    assert said is None or ("with credentials" in said) is bool(credentials)


def misdirected(answer):
    sent = request("GET", "/", host="mark.example")
    return heard(answer, lambda one: origins._misdirected(one, sent, "mark", "Host: mark.example"))


def test_another_host_is_refused_and_not_repeated():
    assert misdirected(Answer(421, (), b"{}")) == {}
    assert misdirected(None) == {}
    assert misdirected(Answer(200, (), b"{}")) == {"foreign host": 1}
    assert misdirected(Answer(404, (), b"<base href=//MARK.example>")) == {"echoes host": 1}
    assert misdirected(Answer(302, (("Location", "http://mark.example/"),), b"")) == {
        "echoes host": 1,
        "redirects elsewhere": 1,
    }
