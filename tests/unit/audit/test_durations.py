"""What the last run of a kind took is told before the next one, and never in the way of it."""

from __future__ import annotations

import json

import pytest

from audit.durations import Durations, spoken


def test_a_run_is_expected_to_take_what_the_last_one_of_its_kind_took(tmp_path):
    path = tmp_path / "cache" / "durations.json"
    assert Durations(path, "digits").expected(["EVA-001"]) is None
    Durations(path, "digits").keep({"EVA-001": 12.344, "EVA-002": 3.0})
    Durations(path, "mnist").keep({"EVA-001": 99.0})
    again = Durations(path, "digits")
    assert again.expected(["EVA-001"]) == pytest.approx(12.34)
    assert again.expected(["EVA-001", "EVA-002"]) == pytest.approx(15.34)
    assert again.expected(["EVA-001", "EVA-009"]) is None
    assert again.expected([]) is None


def test_a_part_of_a_run_leaves_the_rest_as_it_was(tmp_path):
    path = tmp_path / "durations.json"
    Durations(path, "digits").keep({"EVA-001": 12.0, "EVA-002": 3.0})
    Durations(path, "digits").keep({"EVA-002": 4.0})
    assert Durations(path, "digits").expected(["EVA-001", "EVA-002"]) == pytest.approx(16.0)


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", '{"digits": 3}', '{"digits": {"EVA-001": "long"}}'], ids=range(5)
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(tmp_path, content):
    path = tmp_path / "durations.json"
    path.write_text(content, encoding="utf-8")
    found = Durations(path, "digits")
    assert found.expected(["EVA-001"]) is None
    found.keep({"EVA-001": 1.0})
    assert json.loads(path.read_text(encoding="utf-8"))["digits"] == {"EVA-001": 1.0}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (8.2, "8 s"), (170.0, "2 min 50 s")], ids=str
)
def test_durations_are_written_as_one_says_them(seconds, text):
    assert spoken(seconds) == text
