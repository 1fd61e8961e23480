"""Anchors: the end of the chain is noted now and then, and whoever cuts it off or writes it anew is found."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import anchors, appending, chain
from model_under_test.serve.anchors import Anchors
from model_under_test.serve.audit_log import AuditLog
from model_under_test.serve.chain import Link
from tests.unit.model_under_test.serve.test_chain import FIELDS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def link(seq):
    return Link(seq, f"{seq:064x}")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "elsewhere" / "a.anchors"


@pytest.fixture
def noting(path):
    made = Anchors(path, every=300.0, clock=lambda: NOON)
    yield made
    made.close()


def test_an_anchor_is_one_line_of_its_owners_file(noting, path):
    noting.note(link(3), now=0.0)
    assert json.loads(path.read_text()) == {"time": "2026-01-01T12:00:00.000Z", "seq": 3, "hash": link(3).hash}
    assert path.stat().st_mode & 0o777 == 0o600
    assert anchors.read(path) == [link(3)]


def test_it_is_time_after_the_interval_and_after_a_rotation(noting):
    assert noting.due(0.0)
    noting.note(link(1), 0.0)
    assert not noting.due(299.9)
    assert noting.due(300.0)
    assert noting.due(1.0, rotated=1)
    noting.note(link(2), 1.0, rotated=1)
    assert not noting.due(2.0, rotated=1)


def test_a_chain_that_has_not_moved_is_not_noted_again(noting, path):
    noting.note(chain.START, 0.0)
    noting.note(link(1), 1.0)
    noting.note(link(1), 400.0)
    assert not noting.due(401.0)
    assert anchors.read(path) == [link(1)]


def test_anchors_go_on_after_a_restart_and_a_torn_line_is_cut_off(path):
    first = Anchors(path, every=300.0)
    first.note(link(1), 0.0)
    first.note(link(2), 300.0)
    first.close()
    with path.open("ab") as file:
        file.write(b'{"hash":"00')
    assert anchors.read(path) == [link(1), link(2)]
    second = Anchors(path, every=300.0)
    second.note(link(2), 0.0)
    second.note(link(3), 300.0)
    second.close()
    assert anchors.read(path) == [link(1), link(2), link(3)]


def test_an_anchor_that_cannot_be_written_is_told_and_tried_again(noting, path, monkeypatch):
    noting.note(link(1), 0.0)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(appending.os, "write", full)
        noting.note(link(2), 300.0)
    assert noting.trouble() == "No space left on device"
    assert noting.due(300.5)
    noting.note(link(3), 300.5)
    assert noting.trouble() is None
    assert anchors.read(path) == [link(1), link(3)]


@pytest.mark.parametrize("how", ["longer", "replaced", "gone"])
def test_a_file_that_somebody_else_changes_is_told(noting, path, how):
    noting.note(link(1), 0.0)
    assert noting.trouble() is None
    if how == "longer":
        path.write_bytes(path.read_bytes() * 2)
    else:
        path.rename(path.with_name("moved"))
    if how == "replaced":
        path.write_bytes(path.with_name("moved").read_bytes())
    assert noting.trouble() is not None
    noting.note(link(2), 300.0)
    assert noting.trouble() is not None


def test_two_servers_do_not_share_a_file(noting, path):
    with pytest.raises(ServingError, match="another server notes anchors here"):
        Anchors(path, every=1.0)


def test_a_link_is_no_file_of_anchors(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(ServingError, match="anchors cannot be written"):
        Anchors(tmp_path / "link", every=1.0)
    assert not (tmp_path / "there").exists()


GOOD = b'{"hash":"%s","seq":5,"time":"2026-01-01T12:00:00.000Z"}\n' % (b"a" * 64)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(b"rubbish\n", 1, id="rubbish"),
        pytest.param(GOOD + b"\n", 2, id="an empty line"),
        pytest.param(GOOD.replace(b"a", b"g", 1), 1, id="no hash"),
        pytest.param(GOOD.replace(b":5", b":05"), 1, id="no number"),
        pytest.param(GOOD + GOOD, 2, id="twice"),
        pytest.param(GOOD + GOOD.replace(b":5", b":4"), 2, id="backwards"),
        pytest.param(GOOD.replace(b'"seq"', b' "seq"'), 1, id="a space"),
    ],
)
def test_a_garbled_file_is_refused(path, content, line):
    path.parent.mkdir()
    path.write_bytes(GOOD)
    assert anchors.read(path) == [Link(5, "a" * 64)]
    path.write_bytes(content)
    with pytest.raises(ServingError, match=f"a.anchors: line {line}: expected an anchor later than the one before it"):
        anchors.read(path)
    with pytest.raises(ServingError, match=f"line {line}"):
        Anchors(path, every=1.0)


def test_where_there_is_no_file_nothing_is_known(path):
    assert anchors.known(path) == []
    with pytest.raises(ServingError, match="got No such file"):
        anchors.read(path)


def test_a_start_finds_a_tail_that_was_cut_off_or_written_anew(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, rotate_at=2**20)
    noting = Anchors(anchors.beside(path), every=300.0)
    for number in range(4):
        log.append({**FIELDS, "class": number})
        noting.note(log.settle(), 300.0 * number)
    log.close()
    noting.close()
    noted = anchors.known(anchors.beside(path))
    assert chain.verify(path, noted=noted) == 4
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(ServingError, match="record 4 was noted"):
        AuditLog(path, rotate_at=2**20, noted=noted)
    last, _ = chain.seal({**FIELDS, "class": 9}, noted[2])
    path.write_bytes(b"".join(lines[:3]) + last)
    assert chain.verify(path) == 4
    with pytest.raises(ServingError, match="line 4: another hash was noted for record 4"):
        AuditLog(path, rotate_at=2**20, noted=noted)
