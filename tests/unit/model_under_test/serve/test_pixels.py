"""JSON pixels: exactly as they came, or refused before they cost anything."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_under_test.serve import pixels
from model_under_test.serve.problems import Problem
from model_under_test.serve.settings import Settings

LIMITS = Settings()
RAMP = [number / 783 for number in range(784)]


def refusal(body):
    with pytest.raises(Problem) as found:
        pixels.from_json(body, LIMITS)
    return found.value


def with_first(text):
    return b'{"pixels": [' + text + b", 0" * 783 + b"]}"


def test_numbers_arrive_as_float32_without_any_change():
    found = pixels.from_json(json.dumps({"pixels": RAMP}).encode(), LIMITS)
    assert torch.equal(found, torch.tensor([RAMP], dtype=torch.float32))


@pytest.mark.parametrize("text", [b"0", b"1", b"-0.0", b"1e-400", b"5E-1", b"0.00000000000000000000000000001"])
def test_every_way_to_write_a_number_in_range_is_taken(text):
    assert pixels.from_json(with_first(text), LIMITS)[0, 0] == float(text)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param(b"", 400, "not JSON", id="nothing"),
        pytest.param(b"\xff\xfe", 400, "not UTF-8", id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", 400, "not JSON", id="a byte order mark"),
        pytest.param(b'{"pixels": [0', 400, "not JSON", id="cut off"),
        pytest.param(b"{} {}", 400, "not JSON", id="two of them"),
        pytest.param(b"[" * 100_000, 422, "deeper than 8", id="a nest"),
        pytest.param(b'{"a":' * 50_000, 422, "deeper than 8", id="a nest of objects"),
        pytest.param(b"[" + b"[]," * 5_000 + b"[]]", 422, "more than 544 lists", id="a wide nest"),
        pytest.param(b"[" + b"0," * 13_000 + b"0]", 422, "too many numbers", id="too many numbers"),
        pytest.param(b'{"pixels":[],"pixels":[]}', 422, "given twice", id="a key twice"),
        pytest.param(json.dumps({"pixels": RAMP, "x": 1}).encode(), 422, "one key", id="another key"),
        pytest.param(json.dumps(RAMP).encode(), 422, "one key", id="a bare list"),
        pytest.param(b"null", 422, "one key", id="null"),
        pytest.param(json.dumps({"pixels": RAMP[:-1]}).encode(), 422, "784 numbers", id="one too few"),
        pytest.param(json.dumps({"pixels": [*RAMP, 0]}).encode(), 422, "784 numbers", id="one too many"),
        pytest.param(json.dumps({"pixels": "0" * 784}).encode(), 422, "784 numbers", id="a string"),
        pytest.param(json.dumps({"pixels": {"0": 1}}).encode(), 422, "784 numbers", id="an object"),
        pytest.param(with_first(b"NaN"), 422, "NaN", id="NaN"),
        pytest.param(with_first(b"-Infinity"), 422, "infinity", id="infinity"),
        pytest.param(with_first(b"1e999"), 422, "place 0", id="overflow"),
        pytest.param(with_first(b"9" * 5_000), 422, "place 0", id="five thousand digits"),
        pytest.param(with_first(b"1.0000001"), 422, "place 0", id="above 1"),
        pytest.param(with_first(b"-1e-9"), 422, "place 0", id="below 0"),
        pytest.param(with_first(b"true"), 422, "place 0", id="a truth value"),
        pytest.param(with_first(b"null"), 422, "place 0", id="nothing for a number"),
        pytest.param(with_first(b'"0"'), 422, "place 0", id="a string for a number"),
        pytest.param(with_first(b"[0]"), 422, "place 0", id="a list for a number"),
    ],
)
def test_everything_else_is_refused(body, status, words):
    found = refusal(body)
    assert (found.status, words in found.detail) == (status, True), found.detail


def test_brackets_in_strings_nest_nothing():
    assert "one key" in refusal(json.dumps({'[[[[[["[': "]\\"}).encode()).detail


def test_a_string_that_never_ends_is_measured_in_one_pass():
    found = refusal(b'{"' + b'\\"' * 200_000)  # quadratic, this would take minutes
    assert found.status == 400


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ 01eN-.tfn', max_size=200).map(str.encode))
def test_no_body_leads_to_anything_but_a_refusal(body):
    assert refusal(body).status in (400, 422)
