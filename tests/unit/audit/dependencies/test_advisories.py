"""Snapshots: whole or an error; dated; made from a dump that is read with limits."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import date, timedelta

import pytest

from audit import cli
from audit.dependencies import advisories
from audit.errors import DataError
from tests.unit.audit.dependencies.conftest import TODAY, TORCH, record, redate, write_dump


def test_snapshot_is_read_as_it_was_made(make_snapshot):
    snapshot = advisories.read(make_snapshot())
    assert (snapshot.head.records, snapshot.head.taken, snapshot.age()) == (2, TODAY - timedelta(days=1), 1)
    assert snapshot.newest == TODAY - timedelta(days=1)
    told = f"2 records, the newest of {snapshot.newest}, 2 in force about 2 packages, from a stand-in"
    assert told in snapshot.text
    (found,) = snapshot.query("Requests", "2.19.1")
    assert (found["id"], found["aliases"]) == ("PYSEC-2018-28", ["CVE-2018-18074"])
    assert snapshot.query("requests", "2.20.0") == snapshot.query("nothing-known", "1") == []
    with pytest.raises(ValueError, match="expected one by PEP 440"):
        snapshot.query("requests", "latest")


def test_records_are_those_of_the_dump_byte_for_byte(make_snapshot):
    folder = make_snapshot(record())
    with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
        assert (folder / "records/PYSEC-2018-28.json").read_bytes() == archive.read("PYSEC-2018-28.json")


def change(folder):
    path = folder / "records/PYSEC-2018-28.json"
    path.write_text(path.read_text().replace("2.20.0", "2.2.0"), encoding="utf-8")


def remove(folder):
    (folder / "records/PYSEC-2018-28.json").unlink()


def add(folder):
    (folder / "records/PYSEC-2099-1.json").write_text(json.dumps(record(id="PYSEC-2099-1")), encoding="utf-8")


def rename(folder):
    (folder / "records/PYSEC-2018-28.json").rename(folder / "records/PYSEC-2018-29.json")


def link(folder):
    path = folder / "records/PYSEC-2018-28.json"
    path.rename(folder / "elsewhere.json")
    path.symlink_to(folder / "elsewhere.json")


def folder_among_records(folder):
    (folder / "records/more").mkdir()


def no_records(folder):
    (folder / "records").rename(folder / "moved")


def head_of_another_kind(folder):
    (folder / "snapshot.json").write_text('{"schema_version": 2}', encoding="utf-8")


def head_that_is_no_json(folder):
    (folder / "snapshot.json").write_text("taken: today", encoding="utf-8")


def no_head(folder):
    (folder / "snapshot.json").unlink()


def before_its_newest_record(folder):
    redate(folder, date(2024, 1, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change, "records were changed, added or lost"),
        (remove, r"expected 2 records .* \(got 1 with"),
        (add, r"expected 2 records .* \(got 3 with"),
        (rename, r"expected the record 'PYSEC-2018-29' \(got 'PYSEC-2018-28'\)"),
        (link, "expected a file with a record"),
        (folder_among_records, "expected a file with a record"),
        (no_records, "expected a folder of records"),
        (head_of_another_kind, r"snapshot\.json: schema_version: Input should be 1 \(got 2\)"),
        (head_that_is_no_json, r"snapshot\.json: .*Invalid JSON"),
        (no_head, r"expected the head of a snapshot \(got No such file or directory\).*python -m audit advisories"),
        (before_its_newest_record, r"no day before that of the newest record, \d{4}-\d\d-\d\d \(got 2024-01-01\)"),
    ],
)
def test_damaged_snapshot_is_an_error(make_snapshot, damage, message):
    folder = make_snapshot()
    damage(folder)
    with pytest.raises(DataError, match=message):
        advisories.read(folder)


def member(name, content):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


def twice(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PYSEC-2018-28.json", json.dumps(record()))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("PYSEC-2018-28.json", json.dumps(record()))


def truncated(path):
    write_dump(path, [record()])
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path):
    write_dump(path, [record()])
    content = bytearray(path.read_bytes())
    content[80] ^= 0xFF
    path.write_bytes(content)


OURS = json.dumps(record())
OF_NPM = OURS.replace('"PyPI"', '"npm"')


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(member("a.json", "{}"), "'a.json': expected an OSV record: id: Field required", id="no record"),
        pytest.param(member("a.json", "hello"), "'a.json': expected an OSV record: .*Invalid JSON", id="no JSON"),
        pytest.param(member("../PYSEC-2018-28.json", OURS), r"expected the record '\.\./PYSEC", id="another name"),
        pytest.param(
            member("PYSEC-2018-28.json", OF_NPM),
            "expected records in force about PyPI packages",
            id="another ecosystem",
        ),
        pytest.param(lambda path: write_dump(path, []), "got an empty archive", id="empty"),
        pytest.param(twice, "every record once", id="a record twice"),
        pytest.param(truncated, r"expected a \.zip file, whole", id="truncated"),
        pytest.param(flipped, r"expected a \.zip file, whole", id="a byte flipped"),
        pytest.param(lambda path: None, r"expected a \.zip file \(got No such file", id="missing"),
    ],
)
def test_bad_dump_is_an_error_and_leaves_nothing(tmp_path, write, message):
    dump = tmp_path / "dump.zip"
    write(dump)
    with pytest.raises(DataError, match=message):
        advisories.make(dump, tmp_path / "snapshot", TODAY, "a stand-in")
    assert not (tmp_path / "snapshot").exists()


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("LARGEST_RECORD", 100, "at most 100 bytes a record"),
        ("LARGEST_DUMP", 500, "and 500 in all"),
        ("MOST_RECORDS", 1, "1 members"),
    ],
)
def test_dump_beyond_the_limits_is_an_error(tmp_path, monkeypatch, limit, value, message):
    """What the archive says of sizes is not asked: a bomb is read no further than the limit."""
    monkeypatch.setattr(advisories, limit, value)
    dump = write_dump(tmp_path / "dump.zip", [record(), record(id="PYSEC-2099-1")])
    with pytest.raises(DataError, match=message):
        advisories.make(dump, tmp_path / "snapshot", TODAY, "a stand-in")


def test_record_that_grew_beyond_the_limit_is_an_error(make_snapshot, monkeypatch):
    folder = make_snapshot()
    monkeypatch.setattr(advisories, "LARGEST_RECORD", 100)
    with pytest.raises(DataError, match="expected at most 100 bytes"):
        advisories.read(folder)


def test_folder_that_exists_and_day_to_come_are_refused(make_snapshot, tmp_path):
    folder = make_snapshot()
    with pytest.raises(DataError, match="expected a folder that is not there yet"):
        advisories.make(folder.with_suffix(".zip"), folder, TODAY, "a stand-in")
    with pytest.raises(DataError, match="--taken: expected a day that has come"):
        advisories.make(folder.with_suffix(".zip"), tmp_path / "other", TODAY + timedelta(days=1), "a stand-in")


def test_age_is_that_of_the_newest_record_in_days_of_utc(make_snapshot):
    snapshot = advisories.read(make_snapshot(record(modified="2018-10-09T23:30:00-01:00")))
    assert (snapshot.newest, snapshot.head.taken) == (date(2018, 10, 10), TODAY - timedelta(days=1))
    assert snapshot.age(date(2018, 10, 25)) == 15
    assert snapshot.age(date(2018, 10, 8)) == -2


def test_withdrawn_records_are_not_in_force(make_snapshot):
    snapshot = advisories.read(make_snapshot(record(), {**TORCH, "withdrawn": "2025-02-01T00:00:00Z"}))
    assert (snapshot.head.records, snapshot.records, set(snapshot.by_name)) == (2, 1, {"requests"})


def test_command_makes_a_snapshot_and_says_what_is_in_it(tmp_path, capsys):
    dump = write_dump(tmp_path / "dump.zip", [record()])
    words = ["advisories", str(dump), str(tmp_path / "made"), "--taken", TODAY.isoformat()]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert re.match(rf"snapshot of {TODAY}, 1 records, the newest of 2025-01-02", told)
    made = advisories.read(tmp_path / "made")
    assert made.head.records == 1
    assert told.endswith(f"snapshot_sha256: {made.head.sha256}\n")
    assert cli.main(words) == 4
    assert "expected a folder that is not there yet" in capsys.readouterr().err
