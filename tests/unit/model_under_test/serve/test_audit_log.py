"""The audit log: nothing is lost in silence, whatever happens to process, disk or file."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import audit_log, chain
from model_under_test.serve.audit_log import AuditLog, LogUnavailable
from tests.unit.model_under_test.serve.test_chain import FIELDS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "audit.jsonl"


@pytest.fixture
def log(path):
    made = AuditLog(path, rotate_at=2**20)
    yield made
    made.close()


def records(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_record_is_in_the_file_when_append_returns(log, path):
    log.append(FIELDS)
    (found,) = records(path)
    assert set(found) == chain.KEYS
    assert (found["seq"], found["previous"], found["class"]) == (1, "0" * 64, 7)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_chain_goes_on_after_a_restart(path):
    for records_so_far in (1, 2, 3):
        log = AuditLog(path, rotate_at=2**20)
        log.append(FIELDS)
        log.close()
        assert log.end.seq == chain.verify(path) == records_so_far


def test_records_of_many_threads_make_one_chain(path):
    log = AuditLog(path, rotate_at=8_000)
    threads = [threading.Thread(target=lambda: [log.append(FIELDS) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert chain.verify(path) == 400
    assert len(chain.earlier(path)) > 10


def test_two_servers_do_not_share_a_log(log, path):
    with pytest.raises(ServingError, match="another server writes this audit log"):
        AuditLog(path, rotate_at=2**20)


@pytest.mark.parametrize("kept", [1, 100, -1])
def test_a_torn_last_line_is_moved_aside(path, kept):
    log = AuditLog(path, rotate_at=2**20)
    log.append(FIELDS)
    log.append(FIELDS)
    log.close()
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    path.with_name("audit.jsonl.torn-1").write_bytes(b"an older one")
    again = AuditLog(path, rotate_at=2**20)
    again.append(FIELDS)
    again.close()
    assert path.with_name("audit.jsonl.torn-2").read_bytes() == second[:kept]
    assert chain.verify(path) == 2


def test_a_log_that_was_tampered_with_is_not_continued(path):
    log = AuditLog(path, rotate_at=2**20)
    log.append(FIELDS)
    log.append(FIELDS)
    log.close()
    path.write_bytes(path.read_bytes().replace(b"alice", b"mallo", 1))
    with pytest.raises(ServingError, match=r"line 1: edited.*keep the file as evidence"):
        AuditLog(path, rotate_at=2**20)
    path.write_bytes(b"")
    AuditLog(path, rotate_at=2**20).close()  # the lock was given back


def test_a_chain_goes_on_where_a_kill_struck_between_two_files(path):
    log = AuditLog(path, rotate_at=2**20)
    log.append(FIELDS)
    log.close()
    path.rename(path.with_name("audit.jsonl.000001"))
    again = AuditLog(path, rotate_at=2**20)
    again.append(FIELDS)
    again.close()
    assert chain.verify(path) == 2


class Disk:
    """Writes a part of what it is given, then nothing, until there is room again."""

    def __init__(self):
        self.room = 10**9
        self.write = os.write

    def __call__(self, file, content):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(file, content[: self.room])
        self.room -= written
        return written


def test_a_full_disk_loses_no_record_and_says_so(log, path, monkeypatch):
    disk = Disk()
    monkeypatch.setattr(audit_log.os, "write", disk)
    log.append(FIELDS)
    before = path.read_bytes()
    disk.room = 50
    for number in range(3):
        with pytest.raises(LogUnavailable):
            log.append({**FIELDS, "request_id": f"lost-{number}"})
    assert path.read_bytes() == before, "no part of a line stays"
    assert log.trouble() == "No space left on device"
    disk.room = 10**9
    assert log.trouble() is None
    log.append(FIELDS)
    assert [(one["request_id"], one["status"], one["class"]) for one in records(path)] == [
        ("r", 200, 7),
        ("lost-0", 503, None),
        ("lost-1", 503, None),
        ("lost-2", 503, None),
        ("r", 200, 7),
    ]
    assert chain.verify(path) == 5
    assert log.forgotten == 0


def test_refusals_beyond_memory_are_counted(log, monkeypatch):
    disk = Disk()
    disk.room = 0
    monkeypatch.setattr(audit_log.os, "write", disk)
    monkeypatch.setattr(audit_log, "MOST_REMEMBERED", 2)
    for _ in range(5):
        with pytest.raises(LogUnavailable):
            log.append(FIELDS)
    assert log.forgotten == 3


@pytest.mark.parametrize("how", ["longer", "shorter", "replaced", "gone"])
def test_a_file_that_somebody_else_changes_is_noticed_while_serving(log, path, how):
    log.append(FIELDS)
    assert log.trouble() is None
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "replaced":
        path.with_name("new").write_bytes(content)
        path.with_name("new").replace(path)
    else:
        path.write_bytes(content + b"{}\n" if how == "longer" else b"")
    assert log.trouble() is not None
    with pytest.raises(LogUnavailable):
        log.append(FIELDS)


def test_only_a_regular_file_is_a_log(path):
    path.parent.mkdir()
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(ServingError, match="cannot be written"):
        AuditLog(path, rotate_at=2**20)


def test_waiting_for_the_disk_is_a_setting(path, monkeypatch):
    waited = []
    monkeypatch.setattr(audit_log.os, "fsync", waited.append)
    log = AuditLog(path, rotate_at=2**20, fsync=True)
    log.append(FIELDS)
    log.close()
    assert len(waited) == 1
