"""Tokens: shown once, kept as a hash, and good for what they were made for until their day."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from datetime import date

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import tokens
from model_under_test.serve.tokens import Scope, Watched

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
    assert sorted(one.name for one in file.parent.iterdir()) == [file.name, f"{file.name}.lock"]


def test_a_token_is_good_through_its_last_day(file):
    made = tokens.add(file, "alice", (Scope.PREDICT,), expires=DAY, today=DAY)
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


def test_a_token_whose_last_day_is_over_is_made_only_on_purpose(file):
    with pytest.raises(ServingError, match=r"last day is over \(2026-03-01\)"):
        tokens.add(file, "alice", (Scope.PREDICT,), expires=DAY, today=date(2026, 3, 2))
    assert not file.exists()
    made = tokens.add(file, "alice", (Scope.PREDICT,), expires=DAY, today=date(2026, 3, 2), allow_expired=True)
    assert tokens.read(file).find(f"Bearer {made}", today=DAY) is not None


def test_a_revoked_token_is_gone_and_the_others_stay(file):
    made = {name: tokens.add(file, name, (Scope.PREDICT,)) for name in ("alice", "bob", "carol")}
    tokens.revoke(file, "bob")
    known = tokens.read(file)
    assert [name for name, token in made.items() if known.find(f"Bearer {token}")] == ["alice", "carol"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_not_there_cannot_be_revoked(file):
    tokens.add(file, "alice", (Scope.PREDICT,))
    before = file.read_bytes()
    with pytest.raises(ServingError, match=r"expected the name of a token in it, got 'bob'"):
        tokens.revoke(file, "bob")
    assert file.read_bytes() == before
    with pytest.raises(ServingError, match="expected a token file"):
        tokens.revoke(file.with_name("none"), "bob")


def _add(file, name):
    for number in range(5):
        tokens.add(file, f"{name}{number}", (Scope.PREDICT,))


def test_two_writers_at_once_lose_no_token(file):
    writers = [multiprocessing.get_context("fork").Process(target=_add, args=(file, name)) for name in "abcd"]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
    assert [one.exitcode for one in writers] == [0] * 4
    assert len(tokens.read(file).tokens) == 20


def test_whoever_changes_a_file_waits_for_the_lock(file, monkeypatch):
    asked = []
    monkeypatch.setattr(tokens.fcntl, "flock", lambda _, how: asked.append((how, file.exists())))
    tokens.add(file, "alice", (Scope.PREDICT,))
    tokens.revoke(file, "alice")
    assert asked == [(tokens.fcntl.LOCK_EX, False), (tokens.fcntl.LOCK_EX, True)]


def test_only_a_regular_file_is_read(file):
    os.mkfifo(file, 0o600)
    with pytest.raises(ServingError, match="expected a regular file"):
        tokens.read(file)


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_what_changes_in_the_file_holds_after_a_second(file, clock):
    alice = tokens.add(file, "alice", (Scope.PREDICT,))
    watched = Watched(file, clock)
    bob = tokens.add(file, "bob", (Scope.PREDICT,))
    tokens.revoke(file, "alice")
    clock.now = 0.9
    assert watched.tokens().find(f"Bearer {alice}") is not None
    clock.now = 1.0
    assert watched.tokens().find(f"Bearer {alice}") is None
    assert watched.tokens().find(f"Bearer {bob}") is not None
    assert watched.trouble() is None


def test_a_file_that_does_not_change_is_not_read_again(file, clock, monkeypatch):
    tokens.add(file, "alice", (Scope.PREDICT,))
    watched, read = Watched(file, clock), []
    monkeypatch.setattr(tokens, "read", read.append)
    clock.now = 100.0
    assert len(watched.tokens().tokens) == 1
    assert read == []


@pytest.mark.parametrize("how", ["gone", "damaged", "writable", "a pipe"])
def test_a_file_that_cannot_be_used_any_more_changes_nothing_but_readiness(file, clock, caplog, how):
    made = tokens.add(file, "alice", (Scope.PREDICT,))
    watched, content = Watched(file, clock), file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "damaged":
        file.write_bytes(content[:-9])
    elif how == "writable":
        file.chmod(0o660)
    else:
        file.unlink()
        os.mkfifo(file, 0o600)
    with caplog.at_level(logging.WARNING):
        for second in range(1, 4):
            clock.now = float(second)
            assert watched.tokens().find(f"Bearer {made}").name == "alice"
            assert watched.trouble() == "the token file cannot be used; the tokens it held before are in force"
    (said,) = caplog.messages
    assert str(file) in said
    assert made not in said
    assert tokens._digest(made) not in said
    file.unlink(missing_ok=True)
    tokens.add(file, "bob", (Scope.PREDICT,))
    clock.now = 10.0
    assert watched.trouble() is None
    assert watched.tokens().find(f"Bearer {made}") is None


def test_a_server_does_not_start_on_a_damaged_file(file, clock):
    file.write_text("{}x")
    file.chmod(0o600)
    with pytest.raises(ServingError, match=r"tokens\.json"):
        Watched(file, clock)
