"""The hash chain: whoever edits, removes, inserts or moves a line is found; what is not found is said."""

from __future__ import annotations

import hashlib
import json

import pytest

from model_under_test.serve import chain
from model_under_test.serve.audit_log import AuditLog
from model_under_test.serve.chain import START, Broken, Link, Noted

FIELDS = {
    "time": "2026-01-01T00:00:00.000Z",
    "request_id": "r",
    "client": "alice",
    "input_sha256": None,
    "model_digest": "sha256:x",
    "class": 7,
    "confidence": 0.9876,
    "image": 0,
    "count": 1,
    "status": 200,
}
OLD_FIELDS = {name: FIELDS[name] for name in FIELDS.keys() & chain.KEYS_BEFORE}


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
    write_anew(log)
    assert chain.verify(log) == 9
    with pytest.raises(Broken, match="written anew"):
        chain.verify(log, anchor)


def write_anew(log):
    """Change every line of the last file, with hashes that fit."""
    end, changed = chain.read(lines(chain.earlier(log)[-1])[-1])[0], []
    for raw in lines(log):
        line, end = chain.seal({**record_without(json.loads(raw)), "client": "mallory"}, end)
        changed.append(line)
    log.write_bytes(b"".join(changed))


def links(log):
    return [chain.read(raw)[0] for one in (*chain.earlier(log), log) for raw in lines(one)]


def test_records_that_were_noted_are_looked_for_in_every_file(log):
    assert chain.verify(log, noted=links(log)) == 9
    with pytest.raises(Broken, match=r"jsonl\.000002: line 2: another hash was noted for record 5"):
        chain.verify(log, noted=[Link(2, links(log)[1].hash), Link(5, "0" * 64)])


def test_a_tail_written_anew_is_found_at_the_first_record_noted_in_it(log):
    noted = links(log)[::2]
    write_anew(log)
    with pytest.raises(Broken, match=r"audit\.jsonl: line 1: another hash was noted for record 7"):
        chain.verify(log, noted=noted)


def test_a_truncated_end_is_found_by_a_record_that_was_noted(log):
    noted = links(log)
    log.write_bytes(b"".join(lines(log)[:-1]))
    with pytest.raises(Broken, match="record 9 was noted, and is not in the chain: its end was cut off"):
        chain.verify(log, noted=noted)


def sealed(*records):
    """Return the lines of records, and the end of their chain."""
    content, end = b"", START
    for fields in records:
        line, end = chain.seal(fields, end)
        content += line
    return content, end


def test_lines_of_an_older_release_are_in_the_chain_beside_new_ones(tmp_path):
    content, _ = sealed(OLD_FIELDS, OLD_FIELDS, FIELDS, FIELDS)
    (tmp_path / "log").write_bytes(content)
    assert chain.verify(tmp_path / "log") == 4


@pytest.mark.parametrize("missing", ["confidence", "image", "count", "client"])
def test_a_line_has_all_keys_of_a_release(tmp_path, missing):
    content, _ = sealed({name: value for name, value in FIELDS.items() if name != missing})
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(Broken, match="line 1: edited: not a record"):
        chain.verify(tmp_path / "log")


def never(*_):
    raise AssertionError("a usual line was parsed")


USUAL = [
    FIELDS,
    OLD_FIELDS,
    {**FIELDS, "class": None, "confidence": None, "image": None, "status": 413, "count": 1_000},
    {**FIELDS, "confidence": 1.0, "input_sha256": "0" * 64, "image": 15},
    {**FIELDS, "confidence": 0.0001, "client": "2001:db8::1"},
]


def test_usual_lines_are_not_parsed(tmp_path, monkeypatch):
    content, _ = sealed(*USUAL)
    (tmp_path / "log").write_bytes(content)
    monkeypatch.setattr(chain, "follow", never)
    assert chain.verify(tmp_path / "log") == len(USUAL)


@pytest.mark.parametrize(
    "odd",
    [{"client": 'a "quoted\\ näme\r'}, {"confidence": 1e-9}, {"count": 10**30}, {"class": True}, {"time": None}],
    ids=["escapes", "a tiny number", "a huge number", "a truth", "no time"],
)
def test_unusual_lines_are_parsed_and_verify_all_the_same(tmp_path, odd):
    content, _ = sealed(FIELDS, {**FIELDS, **odd}, FIELDS)
    (tmp_path / "log").write_bytes(content)
    assert chain.verify(tmp_path / "log") == 3


@pytest.mark.parametrize("fields", USUAL)
def test_what_is_matched_is_what_would_be_read(fields):
    line, _ = sealed(fields)
    found = chain._USUAL.fullmatch(line) or chain._USUAL_BEFORE.fullmatch(line)
    link, previous = chain.read(line)
    assert (found[2], found[4], int(found[5])) == (link.hash.encode(), previous.encode(), link.seq)


def test_a_number_that_does_not_follow_is_found_though_every_hash_fits(tmp_path):
    first, end = chain.seal(FIELDS, START)
    second, _ = chain.seal(FIELDS, Link(end.seq + 1, end.hash))
    (tmp_path / "log").write_bytes(first + second)
    with pytest.raises(Broken, match="line 2: expected record 2, got 3"):
        chain.verify(tmp_path / "log")


def test_every_changed_byte_is_found(tmp_path):
    content, end = sealed(FIELDS, OLD_FIELDS)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "log").write_bytes(changed)
        with pytest.raises(Broken):
            chain.verify(tmp_path / "log", noted=[end])


@pytest.mark.parametrize("block", [1, 7, 499, 500, 501, 1_300])
def test_a_line_may_lie_across_two_blocks(log, monkeypatch, block):
    expected = chain.walk(chain.earlier(log)[0], START, Noted())
    monkeypatch.setattr(chain, "BLOCK", block)
    found = chain.walk(chain.earlier(log)[0], START, Noted())
    assert (found.end, found.lines, found.size, found.stamp) == (
        expected.end,
        3,
        chain.earlier(log)[0].stat().st_size,
        expected.stamp,
    )
    assert found.content.hexdigest() == hashlib.sha256(chain.earlier(log)[0].read_bytes()).hexdigest()
    assert chain.verify(log) == 9
