"""The commands beside the server: token add, list and revoke, and verify-log."""

from __future__ import annotations

import pytest

from model_under_test.serve import __main__ as command
from model_under_test.serve import anchors, chain, tokens
from model_under_test.serve.anchors import Anchors
from model_under_test.serve.audit_log import AuditLog
from tests.unit.model_under_test.serve.test_chain import FIELDS


@pytest.fixture
def run(capsys):
    """Give a function that runs a command; returns code, output and complaint."""

    def do(*arguments):
        code = command.main([str(one) for one in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return do


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.json"


@pytest.mark.parametrize("words", [("token",), ("token", "add")])
def test_a_token_is_made_and_shown(run, file, words):
    code, out, err = run(*words, "--tokens", file, "--name", "alice", "--scope", "predict")
    assert (code, err) == (0, "")
    assert tokens.read(file).find(f"Bearer {out.strip()}").name == "alice"


def test_a_token_that_has_expired_is_made_only_on_purpose(run, file):
    asked = ("token", "--tokens", file, "--name", "past", "--scope", "predict", "--expires", "2020-01-01")
    code, out, err = run(*asked)
    assert (code, out) == (4, "")
    assert "last day is over (2020-01-01)" in err
    assert run(*asked, "--allow-expired")[0] == 0


def test_the_list_says_whose_tokens_there_are_and_shows_no_hash(run, file):
    run("token", "--tokens", file, "--name", "alice", "--scope", "predict", "--scope", "metrics")
    run("token", "--tokens", file, "--name", "bob", "--scope", "predict", "--expires", "9999-12-31")
    run("token", "--tokens", file, "--name", "past", "--scope", "metrics", "--expires", "2020-01-01", "--allow-expired")
    assert run("token", "list", "--tokens", file) == (
        0,
        "alice predict,metrics without end\nbob predict until 9999-12-31\npast metrics until 2020-01-01 expired\n",
        "",
    )


def test_a_token_is_revoked_by_name(run, file):
    run("token", "--tokens", file, "--name", "alice", "--scope", "predict")
    assert run("token", "revoke", "--tokens", file, "--name", "alice") == (0, "", "")
    assert run("token", "list", "--tokens", file) == (0, "", "")
    code, out, err = run("token", "revoke", "--tokens", file, "--name", "alice")
    assert (code, out) == (4, "")
    assert "got 'alice'" in err


@pytest.fixture
def log(tmp_path):
    """Give a log of four records, two of them anchored beside it."""
    path = tmp_path / "audit.jsonl"
    written, noting = AuditLog(path, rotate_at=2**20), Anchors(anchors.beside(path), every=1.0)
    for number in range(4):
        written.append({**FIELDS, "class": number})
        if number % 2:
            noting.note(written.settle(), float(number))
    written.close()
    noting.close()
    return path


def cut(log):
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))


def test_anchors_beside_the_log_are_used_by_themselves(run, log):
    assert run("verify-log", log) == (0, "verified: 4 records, 2 anchors fit\n", "")
    cut(log)
    code, out, err = run("verify-log", log)
    assert (code, out) == (1, "")
    assert err == f"{log}: line 3: record 4 was noted, and is not in the chain: its end was cut off\n"


def test_anchors_kept_elsewhere_are_used_when_they_are_named(run, log, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    anchors.beside(log).rename(elsewhere)
    assert run("verify-log", log, "--anchors", elsewhere) == (0, "verified: 4 records, 2 anchors fit\n", "")
    cut(log)
    assert run("verify-log", log) == (0, "verified: 3 records\n", "")
    assert run("verify-log", log, "--anchors", elsewhere)[0] == 1


@pytest.mark.parametrize("content", [None, b"", b"garbled\n"], ids=["missing", "empty", "garbled"])
def test_named_anchors_that_tell_nothing_are_an_error(run, log, tmp_path, content):
    if content is not None:
        (tmp_path / "named").write_bytes(content)
    code, out, err = run("verify-log", log, "--anchors", tmp_path / "named")
    assert (code, out) == (1, "")
    assert err.startswith(f"{tmp_path / 'named'}: ")


def test_garbled_anchors_beside_the_log_are_an_error_and_empty_ones_are_not(run, log):
    anchors.beside(log).write_bytes(b"garbled\n")
    assert run("verify-log", log)[0] == 1
    anchors.beside(log).write_bytes(b"")
    assert run("verify-log", log) == (0, "verified: 4 records, 0 anchors fit\n", "")


def test_a_hash_noted_by_hand_goes_beside_anchors(run, log):
    hashes = [chain.read(line)[0].hash for line in log.read_bytes().splitlines(keepends=True)]
    assert run("verify-log", log, "--anchor", hashes[2])[0] == 0
    assert run("verify-log", log, "--anchor", "0" * 64)[0] == 1
