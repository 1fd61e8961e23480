"""What each check makes of single answers."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from audit.serving import access, agreement, exposure, malformed, overload, tampering
from audit.serving.bench import Tried
from audit.serving.client import Answer
from audit.serving.crafted import Crafted
from audit.serving.overload import _Logged, _Reply

SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Request-Id": "r1",
}
GET = b"GET / HTTP/1.1\r\n\r\n"


def rules(judge, *words):
    """Return the rules that a judgement of one answer finds broken."""
    tried = Tried()
    judge(tried, *words)
    return set(tried.counts)


def headed(**changed):
    headers = {**SAFE, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return Answer(200, tuple((name, value) for name, value in headers.items() if value is not None), b"")


def test_an_answer_with_all_headers_is_in_order():
    assert rules(exposure._look, GET, headed()) == set()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"Content_Security_Policy": "frame-ancestors 'none'"}, "no strict CSP"),
        ({"Content_Security_Policy": "default-src elsewhere.example; frame-ancestors 'none'"}, "no strict CSP"),
        ({"Content_Security_Policy": SAFE["Content-Security-Policy"] + "; style-src 'unsafe-inline'"}, "loose CSP"),
        ({"Content_Security_Policy": SAFE["Content-Security-Policy"] + "; script-src-elem data:"}, "loose CSP"),
        ({"Content_Security_Policy": "default-src 'none'"}, "may be framed"),
        ({"X_Content_Type_Options": None}, "may be sniffed"),
        ({"Referrer_Policy": "unsafe-url"}, "tells referrers"),
        ({"Access_Control_Allow_Origin": "*"}, "any origin"),
        ({"X_Request_Id": None}, "no request id"),
        ({"Server": "waitress"}, "internals"),
    ],
)
def test_a_header_that_is_missing_or_weak_is_found(changed, rule):
    assert rules(exposure._look, GET, headed(**changed)) == {rule}


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("<script>alert(1)</script>", "inline script"),
        ("<p style='color: red'>", "inline style"),
        ("<button onclick='f()'>", "inline handler"),
        ('<script src="https://cdn.example/x.js"></script>', "foreign content"),
    ],
)
def test_what_a_strict_policy_forbids_is_seen_in_the_page(page, name):
    good = '<script src="/static/page.js" defer></script><link rel="stylesheet" href="/static/page.css">'
    assert [key for key, pattern in exposure.INLINE.items() if pattern.search(page)] == [name]
    assert not any(pattern.search(good) for pattern in exposure.INLINE.values())


@pytest.mark.parametrize(
    ("crafted", "answer", "expected"),
    [
        (Crafted("f", GET, invalid=True), Answer(422, (), b""), set()),
        (Crafted("f", GET), Answer(200, (), b""), set()),
        (Crafted("f", GET), Answer(503, (), b""), set()),
        (Crafted("f", GET, whole=False), None, set()),
        (Crafted("f", GET), None, {"no answer"}),
        (Crafted("f", GET, invalid=True), Answer(200, (), b""), {"accepted"}),
        (Crafted("f", GET), Answer(500, (), b""), {"server error"}),
        (Crafted("f", GET), Answer(501, (), b""), {"server error"}),
        (Crafted("f", GET), Answer(400, (), b"Traceback (most recent call last)"), {"internals"}),
    ],
)
def test_malformed_requests_are_refused_and_nothing_else(crafted, answer, expected):
    assert rules(malformed._judge, crafted, answer) == expected


@pytest.mark.parametrize(
    ("status", "allowed", "expected"),
    [
        (401, (401,), set()),
        (200, (401,), {"let in"}),
        (429, (401,), {"another answer"}),
        (401, (200,), {"refused"}),
        (None, (200,), {"refused"}),
        (None, (400, 401), set()),
        (None, (503,), {"refused"}),
    ],
)
def test_who_is_let_in_is_judged_by_status(status, allowed, expected):
    answer = None if status is None else Answer(status, (), b"")
    assert rules(access._expect, "x", answer, allowed) == expected


def reply(**changed):
    given = {"body": 0, "status": 200, "chosen": 4, "request_id": "a", "retry": None, "seconds": 0.1}
    return _Reply(**{**given, **changed})


@pytest.mark.parametrize(
    ("replies", "logged", "expected"),
    [
        ([reply()], ["a"], set()),
        ([reply(status=429, retry="2")], ["a"], set()),
        ([reply(status=503, retry="1")], ["a"], set()),
        ([reply(status=0, request_id=None)], [], {"dropped"}),
        ([reply(chosen=5)], ["a"], {"wrong answer"}),
        ([reply(status=503)], ["a"], {"no Retry-After"}),
        ([reply(status=429, retry="soon")], ["a"], {"no Retry-After"}),
        ([reply(status=500)], ["a"], {"not refused cleanly"}),
        ([reply(request_id=None)], [], {"no request id"}),
        ([reply(), reply()], ["a"], {"not exactly once"}),
        ([reply()], ["a", "a"], {"not exactly once"}),
        ([reply()], [], {"not exactly once"}),
        ([reply(status=429, retry="2")], ["a", "a"], {"not exactly once"}),
    ],
)
def test_under_load_every_request_has_one_right_answer(replies, logged, expected):
    assert rules(overload._judge, replies, {0: 4}, _Logged(Counter(logged), 1)) == expected


@pytest.mark.parametrize(("counted", "expected"), [(2, set()), (1, {"refusals not counted"})])
def test_refusals_may_be_folded_but_are_counted(counted, expected):
    replies = [reply(status=503, retry="1", request_id=name) for name in "ab"]
    assert rules(overload._judge, replies, {0: 4}, _Logged(Counter("a"), counted)) == expected


BENCH = SimpleNamespace(subject=SimpleNamespace(sha256="d"))


def served(**changed):
    said = {"class": 1, "probabilities": [0.1, 0.9], "model_digest": "sha256:d", **changed}
    return Answer(200, (), json.dumps(said).encode())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (served(), set()),
        (served(probabilities=[0.14999, 0.85001]), set()),
        (served(probabilities=[0.152, 0.848]), {"other probabilities"}),
        (served(**{"class": 0}), {"another class"}),
        (served(**{"class": "1"}), {"another class"}),
        (served(model_digest="sha256:e"), {"another digest"}),
        (served(probabilities=None), {"no probabilities"}),
        (served(probabilities=[0.1, 0.8, 0.1]), {"no probabilities"}),
        (served(probabilities=[False, 0.9]), {"no probabilities"}),
        (served(probabilities=["0.1", "0.9"]), {"no probabilities"}),
        (Answer(422, (), b"{}"), {"no class"}),
    ],
)
def test_served_and_audited_answers_agree_to_the_rounding(answer, expected):
    assert rules(agreement._judge, "image 0", answer, (1, (0.1, 0.9)), BENCH, 1) == expected


def test_no_two_edits_of_a_log_are_the_same_and_none_leaves_it_as_it_was():
    lines = [
        json.dumps({"class": n, "time": "t", "request_id": str(n), "hash": "h"}).encode() + b"\n" for n in range(9)
    ]
    edits = [b"".join(content) for _, content in tampering._edits(lines)]
    assert len({*edits, b"".join(lines)}) == len(edits) + 1
