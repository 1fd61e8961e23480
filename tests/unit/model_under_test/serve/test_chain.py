"""The hash chain: whoever edits, removes, inserts or moves a line is found; what is not found is said."""

from __future__ import annotations

import json

import pytest

from model_under_test.serve import chain
from model_under_test.serve.audit_log import AuditLog
from model_under_test.serve.chain import START, Broken

FIELDS = {
    "time": "2026-01-01T00:00:00.000Z",
    "request_id": "r",
    "client": "alice",
    "input_sha256": None,
    "model_digest": "sha256:x",
    "class": 7,
    "status": 200,
}


@pytest.fixture
def log(tmp_path):
    """Give a log of nine records in three files."""
    path = tmp_path / "audit.jsonl"
    line, _ = chain.seal(FIELDS, START)
    written = AuditLog(path, rotate_at=3 * len(line) + 10)
    for number in range(9):
        written.append({**FIELDS, "class": number})
    written.close()
    return path


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def test_what_was_written_verifies_across_the_files_that_were_rotated_away(log):
    assert [one.name for one in chain.earlier(log)] == ["audit.jsonl.000001", "audit.jsonl.000002"]
    assert chain.verify(log) == 9
    assert [json.loads(raw)["seq"] for raw in lines(log)] == [7, 8, 9]


def reseal(raw, **changes):
    record = {**json.loads(raw), **changes}
    return chain.seal(record_without(record), chain.Link(record["seq"] - 1, record["previous"]))[0]


def record_without(record):
    return {name: value for name, value in record.items() if name not in ("hash", "seq", "previous")}


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        pytest.param(lambda a, b, c: [a, b.replace(b'"status":200', b'"status":500'), c], 2, "edited", id="edited"),
        pytest.param(lambda a, b, c: [a, b.replace(b'":', b'": '), c], 2, "edited", id="only a space"),
        pytest.param(
            lambda a, b, c: [a, reseal(b, client="bob"), c], 3, "does not follow", id="edited, hash made anew"
        ),
        pytest.param(lambda a, b, c: [a, c], 2, "removed", id="removed"),
        pytest.param(lambda a, b, c: [b, c], 1, "removed", id="the first removed"),
        pytest.param(lambda a, b, c: [a, c, b], 2, "removed or moved", id="reordered"),
        pytest.param(lambda a, b, c: [a, b, b, c], 3, "inserted, repeated or moved", id="repeated"),
        pytest.param(lambda a, b, c: [a, reseal(b, request_id="x"), b, c], 3, "inserted", id="inserted"),
        pytest.param(lambda a, b, c: [a, b"\n", b, c], 2, "edited", id="an empty line"),
        pytest.param(lambda a, b, c: [a, b, c[:-1]], 3, "torn", id="torn"),
        pytest.param(lambda a, b, c: [a, b, b"[1]\n"], 3, "edited", id="another kind of line"),
        pytest.param(lambda a, b, c: [a, b, b"[" * 20_000 + b"\n"], 3, "torn|edited", id="a nest"),
    ],
)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_changed_file_is_found(log, change, line, words, where):
    path = [*chain.earlier(log), log][where]
    path.write_bytes(b"".join(change(*lines(path))))
    with pytest.raises(Broken, match=words) as found:
        chain.verify(log)
    assert (found.value.path, found.value.line) == (path, line)


def test_a_missing_file_in_between_is_found(log):
    chain.earlier(log)[1].unlink()
    with pytest.raises(Broken, match=r"audit\.jsonl: line 1: expected record 4, got 7"):
        chain.verify(log)


def test_a_truncated_end_is_found_by_a_hash_noted_before(log):
    anchor = json.loads(lines(log)[-1])["hash"]
    assert chain.verify(log, anchor) == 9
    log.write_bytes(b"".join(lines(log)[:-1]))
    assert chain.verify(log) == 8  # without a note, nothing tells
    with pytest.raises(Broken, match="cut off, or written anew"):
        chain.verify(log, anchor)


def test_a_tail_written_anew_is_found_by_a_hash_noted_before(log):
    anchor = json.loads(lines(log)[-1])["hash"]
    end, changed = chain.last(chain.earlier(log)[-1]), []
    for raw in lines(log):
        line, end = chain.seal({**record_without(json.loads(raw)), "client": "mallory"}, end)
        changed.append(line)
    log.write_bytes(b"".join(changed))
    assert chain.verify(log) == 9
    with pytest.raises(Broken, match="written anew"):
        chain.verify(log, anchor)
