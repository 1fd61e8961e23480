"""Digests are those of the bytes; what is remembered is believed only where it could not be forged cheaply."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit.dependencies import digests as module
from audit.dependencies.digests import NO_FILE, digests
from audit.dependencies.planted import flip


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Give three files that settled long ago."""
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    made = [tmp_path / name for name in "abc"]
    for path in made:
        path.write_bytes(path.name.encode() * 1000)
    return [str(path) for path in made]


@pytest.fixture
def memory(tmp_path):
    """Give the path of a memory that is not there yet."""
    return tmp_path / "cache/memory.json"


def true(files):
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files}


def touch_back(path):
    """Change a file, its size and mtime kept; the clock of the file system may take a moment to tick."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    flip(path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_unchanged_files_are_read_once(files, memory):
    first = digests(files, memory)
    assert (first.known, first.fresh, first.size) == (true(files), 3000, 3000)
    again = digests(files, memory)
    assert (again.known, again.fresh, again.size) == (true(files), 0, 3000)
    assert memory.stat().st_mode & 0o777 == 0o600


def test_change_that_keeps_size_and_time_is_seen(files, memory, tmp_path):
    digests(files, memory)
    touch_back(tmp_path / "b")
    again = digests(files, memory)
    assert (again.known, again.fresh) == (true(files), 1000)


@pytest.mark.parametrize("part", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_file_of_which_one_part_of_the_stamp_differs_is_read_again(files, memory, monkeypatch, part):
    told = os.stat
    parts = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")

    def another(path, **options):
        found = told(path, **options)
        if path not in files:
            return found
        return SimpleNamespace(**{name: getattr(found, name) + (name == part) for name in parts})

    digests(files, memory)
    assert digests(files, memory).fresh == 0
    monkeypatch.setattr(os, "stat", another)
    assert digests(files, memory).fresh >= 3000


def test_what_changed_just_now_is_not_remembered(files, memory, monkeypatch):
    """A second change within one tick of the clock would bear the same time."""
    monkeypatch.setattr(module, "SETTLED_NS", 10**12)
    digests(files, memory)
    assert digests(files, memory).fresh == 3000


def forged(files, memory):
    """Remember digests for files that they are not those of."""
    digests(files, memory)
    held = json.loads(memory.read_text())
    held["files"] = {path: [stamp, "0" * 64] for path, (stamp, _) in held["files"].items()}
    memory.write_text(json.dumps(held), encoding="utf-8")
    assert set(digests(files, memory).known.values()) == {"0" * 64}  # so the forgery is one


def writable_by_others(memory):
    memory.chmod(0o622)


def a_link(memory):
    memory.rename(memory.with_name("elsewhere"))
    memory.symlink_to("elsewhere")


def of_another_machine(memory):
    held = json.loads(memory.read_text())
    held["files"] = {path: [[*stamp[:4], stamp[4] + 1], found] for path, (stamp, found) in held["files"].items()}
    memory.write_text(json.dumps(held), encoding="utf-8")


def no_json(memory):
    memory.write_text("{", encoding="utf-8")


def another_version(memory):
    memory.write_text(memory.read_text().replace('"version": 1', '"version": 0'), encoding="utf-8")


def another_shape(memory):
    memory.write_text('{"version": 1, "files": {"a": 1}}', encoding="utf-8")


@pytest.mark.parametrize(
    "how", [writable_by_others, a_link, of_another_machine, no_json, another_version, another_shape]
)
def test_memory_that_others_could_have_written_or_that_fits_no_file_is_not_believed(files, memory, how):
    forged(files, memory)
    how(memory)
    read = digests(files, memory)
    assert (read.known, read.fresh) == (true(files), 3000)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_memory_of_another_user_is_not_believed(files, memory):
    forged(files, memory)
    os.chown(memory, 12345, -1)
    assert digests(files, memory).known == true(files)


def test_what_is_gone_or_no_file_or_unreadable_is_told_apart_and_nothing_is_waited_for(files, memory, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    names = ["pipe", "loop", "none", "a/b"]
    read = digests([*files, *(str(tmp_path / name) for name in names)], memory)
    assert read.known == true(files)
    assert read.gone == {str(tmp_path / "none"), str(tmp_path / "a/b")}
    assert read.unreadable == {
        str(tmp_path / "pipe"): NO_FILE,
        str(tmp_path / "loop"): "Too many levels of symbolic links",
    }


def test_memory_that_cannot_be_written_costs_time_only(files, tmp_path):
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    assert digests(files, tmp_path / "cache/memory.json").known == true(files)
