"""Tokens: shown once, kept as a hash, and good for what they were made for until their day."""

from __future__ import annotations

import json
from datetime import date

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import tokens
from model_under_test.serve.tokens import Scope

DAY = date(2026, 3, 1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.json"


def test_a_token_is_found_by_itself_and_by_nothing_else(file):
    made = tokens.add(file, "alice", (Scope.PREDICT,))
    other = tokens.add(file, "bob", (Scope.METRICS, Scope.PREDICT))
    known = tokens.read(file)
    assert known.find(f"Bearer {made}").name == "alice"
    assert known.find(f"bearer  {other}").scopes == (Scope.METRICS, Scope.PREDICT)
    for wrong in (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {made}",
        made,
        f"Bearer {made}x",
        f"Bearer {made} ",
        f"Bearer {made[:-1]}",
    ):
        assert known.find(wrong) is None
    assert known.find(f"Bearer {made}, Bearer {other}") is None
    assert known.find("Bearer " + known.tokens[0].sha256) is None


def test_the_file_holds_no_token_and_is_its_owners_alone(file):
    made = tokens.add(file, "alice", (Scope.PREDICT,))
    assert made not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(made) >= 43  # 256 bits
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_token_is_good_through_its_last_day(file):
    made = tokens.add(file, "alice", (Scope.PREDICT,), expires=DAY)
    known = tokens.read(file)
    assert known.find(f"Bearer {made}", today=DAY) is not None
    assert known.find(f"Bearer {made}", today=date(2026, 3, 2)) is None


@pytest.mark.parametrize("name", ["", "127.0.0.1", "a b", "a\nb", "x" * 65, "../x"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(file, name):
    with pytest.raises(ServingError, match="cannot add a token named"):
        tokens.add(file, name, (Scope.PREDICT,))
    assert not file.exists()


def test_a_name_is_given_once(file):
    tokens.add(file, "alice", (Scope.PREDICT,))
    before = file.read_bytes()
    with pytest.raises(ServingError, match="each name once"):
        tokens.add(file, "alice", (Scope.METRICS,))
    assert file.read_bytes() == before


def test_a_file_that_others_can_write_is_refused(file):
    tokens.add(file, "alice", (Scope.PREDICT,))
    file.chmod(0o620)
    with pytest.raises(ServingError, match="only its owner can write"):
        tokens.read(file)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"extra": 1},
        {"tokens": [{"name": "a", "sha256": "short", "scopes": ["predict"]}]},
        {"tokens": [{"name": "a", "sha256": "0" * 64, "scopes": []}]},
        {"tokens": [{"name": "a", "sha256": "0" * 64, "scopes": ["everything"]}]},
    ],
    ids=["version", "unknown key", "hash", "no scope", "unknown scope"],
)
def test_a_damaged_file_is_refused(file, change):
    file.write_text(json.dumps({"version": 1, "tokens": []} | change))
    file.chmod(0o600)
    with pytest.raises(ServingError, match=r"tokens\.json: "):
        tokens.read(file)
