"""The audit log: nothing is lost in silence, whatever happens to process, disk or file."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import appending, audit_log, chain, held
from model_under_test.serve.audit_log import AuditLog, LogUnavailable
from tests.unit.model_under_test.serve.test_chain import FIELDS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "audit.jsonl"


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(path, clock):
    made = AuditLog(path, rotate_at=2**20, clock=clock)
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
    monkeypatch.setattr(appending.os, "write", disk)
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
    monkeypatch.setattr(appending.os, "write", disk)
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
    monkeypatch.setattr(appending.os, "fsync", waited.append)
    log = AuditLog(path, rotate_at=2**20, fsync=True)
    log.append(FIELDS)
    log.close()
    assert len(waited) == 1


def in_five_files(path, clock):
    """Return a log of ten records."""
    line, _ = chain.seal(FIELDS, chain.START)
    made = AuditLog(path, rotate_at=2 * len(line) + 10, clock=clock)
    for number in range(10):
        made.append({**FIELDS, "class": number})
    return made


@pytest.fixture
def full(path, clock):
    """Give a log of ten records in five files, looked at once."""
    made = in_five_files(path, clock)
    assert made.trouble() is None
    clock.now += held.LOOK_AGAIN_SECONDS
    assert made.trouble() is None
    yield made
    made.close()


def edit(path, old=b"alice", new=b"mallo"):
    """Change a file in place; its size and times stay."""
    before, content = path.stat(), path.read_bytes()
    assert old in content
    with path.open("r+b") as file:
        file.write(content.replace(old, new, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("which", [0, 3, 4])
def test_a_file_edited_in_place_stops_predictions_until_it_is_right_again(full, path, clock, which):
    edited = [*chain.earlier(path), path][which]
    edit(edited)
    clock.now += held.LOOK_AGAIN_SECONDS - 0.1
    assert full.trouble() is None
    clock.now += 0.1
    assert "changed" in full.trouble()
    with pytest.raises(LogUnavailable, match="changed"):
        full.append(FIELDS)
    assert len(records(path)) == 2, "a falsified log is not continued"
    clock.now += held.LOOK_AGAIN_SECONDS
    assert "changed" in full.trouble()
    edit(edited, b"mallo", b"alice")
    clock.now += held.LOOK_AGAIN_SECONDS
    assert full.trouble() is None
    full.append(FIELDS)
    assert chain.verify(path) == 12
    statuses = [one["status"] for file in (*chain.earlier(path), path) for one in records(file)]
    assert statuses == [200] * 10 + [503, 200]


def test_a_file_edited_before_it_is_rotated_away_is_found_afterwards(path, clock):
    line, _ = chain.seal(FIELDS, chain.START)
    log = AuditLog(path, rotate_at=2 * len(line) + 10, clock=clock)
    log.append(FIELDS)
    assert log.trouble() is None
    edit(path)
    log.append(FIELDS)
    log.append(FIELDS)
    assert log.rotated == 1
    clock.now += held.LOOK_AGAIN_SECONDS
    assert log.trouble() == "audit.jsonl.000001, a full file of the audit log, was changed or removed by somebody else"
    log.close()


def test_a_full_file_that_is_removed_is_missed(full, path, clock):
    chain.earlier(path)[1].unlink()
    clock.now += held.LOOK_AGAIN_SECONDS
    full.watch(clock.now)
    with pytest.raises(LogUnavailable, match=r"audit\.jsonl\.000002.*removed"):
        full.append(FIELDS)


def test_a_full_file_is_read_again_only_when_something_happened_to_it(full, path, clock, monkeypatch):
    read, digest = [], held._digest
    monkeypatch.setattr(held, "_digest", lambda file, size: read.append(size) or digest(file, size))
    clock.now += held.LOOK_AGAIN_SECONDS
    assert full.trouble() is None
    assert read == [path.stat().st_size]
    chain.earlier(path)[1].touch()
    for _ in range(2):
        clock.now += held.LOOK_AGAIN_SECONDS
        assert full.trouble() is None
    assert len(read) == 4, "the log thrice, the touched file once"


def test_a_large_file_is_compared_in_parts_while_it_grows(path, clock, monkeypatch):
    monkeypatch.setattr(held, "BLOCK", 100)
    monkeypatch.setattr(held, "BLOCKS_AT_ONCE", 3)
    log = AuditLog(path, rotate_at=2**20, clock=clock)
    log.append(FIELDS)
    edit(path)
    log.watch(clock.now)
    log.append(FIELDS)  # not known yet
    log.watch(clock.now)
    with pytest.raises(LogUnavailable, match="changed by somebody else"):
        log.append(FIELDS)
    log.close()


def test_the_log_is_written_while_it_is_compared(path, clock, monkeypatch):
    log = AuditLog(path, rotate_at=2**20, clock=clock)
    log.append(FIELDS)
    digest = held._digest

    def slow(file, size):
        log.append(FIELDS)  # would wait for ever if the lock were held
        return digest(file, size)

    monkeypatch.setattr(held, "_digest", slow)
    assert log.trouble() is None
    assert log.end.seq == 2
    log.close()


def test_files_that_were_rotated_away_are_verified_at_the_start(path, clock):
    in_five_files(path, clock).close()
    edit(chain.earlier(path)[1])
    with pytest.raises(ServingError, match=r"audit\.jsonl\.000002: line 1: edited.*keep the file as evidence"):
        AuditLog(path, rotate_at=2**20)


def test_a_start_asks_for_what_was_noted(path):
    log = AuditLog(path, rotate_at=2**20)
    log.append(FIELDS)
    log.append(FIELDS)
    noted = [log.end]
    log.close()
    AuditLog(path, rotate_at=2**20, noted=noted).close()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(ServingError, match="record 2 was noted, and is not in the chain: its end was cut off; keep"):
        AuditLog(path, rotate_at=2**20, noted=noted)


class Room:
    """A file system with so many blocks left."""

    f_frsize = 1_000

    def __init__(self):
        self.f_bavail, self.asked = 1_000, 0

    def __call__(self, _):
        self.asked += 1
        return self


@pytest.fixture
def room(monkeypatch):
    there = Room()
    monkeypatch.setattr(audit_log.os, "statvfs", there)
    return there


def test_refusals_leave_the_reserve_to_predictions(path, clock, room):
    log = AuditLog(path, rotate_at=2**20, reserve=500_000, clock=clock)
    log.append({**FIELDS, "status": 429}, spare=True)
    room.f_bavail = 499
    clock.now += 1
    log.append({**FIELDS, "status": 429, "count": 30}, spare=True)
    log.append(FIELDS)
    assert [one["status"] for one in records(path)] == [429, 200]
    assert log.forgotten == 30
    room.f_bavail = 501
    clock.now += 1
    log.append({**FIELDS, "status": 401}, spare=True)
    assert records(path)[-1]["status"] == 401
    log.close()


def test_the_file_system_is_asked_once_a_second_and_our_own_lines_are_taken_off(log, path, clock, room):
    assert log.room == 1_000_000
    log.append(FIELDS)
    assert log.room == 1_000_000 - path.stat().st_size
    assert room.asked == 1
    clock.now += 1
    assert (log.room, room.asked) == (1_000_000, 2)


def test_a_file_system_that_does_not_say_has_no_room(log, monkeypatch):
    def fails(_):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(audit_log.os, "statvfs", fails)
    assert log.room == 0


def test_what_is_settled_is_on_the_disk(log, monkeypatch):
    log.append(FIELDS)
    assert log.settle() == log.end

    def fails(_):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(audit_log.os, "fsync", fails)
    with pytest.raises(LogUnavailable, match="the disk is broken"):
        log.settle()


def test_a_refusal_that_is_remembered_claims_no_confidence(log, path, monkeypatch):
    disk = Disk()
    disk.room = 0
    monkeypatch.setattr(appending.os, "write", disk)
    with pytest.raises(LogUnavailable):
        log.append(FIELDS)
    disk.room = 10**9
    assert log.trouble() is None
    (found,) = records(path)
    assert (found["status"], found["class"], found["confidence"]) == (503, None, None)
