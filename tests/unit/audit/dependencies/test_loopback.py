"""The snapshot as a service: on loopback only, while it is needed, and for one kind of question."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest

from audit.dependencies import advisories
from audit.dependencies.loopback import serving

QUERY = {"package": {"ecosystem": "PyPI", "name": "requests"}, "version": "2.19.1"}


@pytest.fixture
def snapshot(make_snapshot):
    return advisories.read(make_snapshot())


def ask(connection, body, path="/v1/query", method="POST"):
    connection.request(method, path, body if isinstance(body, str) else json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if response.status < 500 else content


def test_questions_are_answered_over_one_connection(snapshot):
    with serving(snapshot) as url:
        parts = urlsplit(url)
        assert parts.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
        status, found = ask(connection, QUERY)
        assert (status, [one["id"] for one in found["vulns"]]) == (200, ["PYSEC-2018-28"])
        socket = connection.sock
        assert ask(connection, {**QUERY, "version": "2.32.0"}) == (200, {})
        assert connection.sock is socket
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(parts.hostname, parts.port, timeout=5).connect()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param("hello", "/v1/query", id="no JSON"),
        pytest.param([1], "/v1/query", id="a list"),
        pytest.param({}, "/v1/query", id="no package"),
        pytest.param({**QUERY, "version": "latest"}, "/v1/query", id="no version"),
        pytest.param({**QUERY, "package": {"ecosystem": "npm", "name": "x"}}, "/v1/query", id="another ecosystem"),
        pytest.param(QUERY, "/v1/querybatch", id="another path"),
        pytest.param("x" * 70_000, "/v1/query", id="too long"),
    ],
)
def test_other_questions_are_refused_and_never_answered_with_nothing_known(snapshot, body, path):
    with serving(snapshot) as url:
        connection = http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=5)
        status, told = ask(connection, body, path)
        connection.close()
    assert status == 400
    assert told["message"].startswith("expected")


def test_other_methods_are_refused(snapshot):
    with serving(snapshot) as url:
        connection = http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=5)
        assert ask(connection, "", method="GET")[0] == 501
        connection.close()
