"""``latest`` is the audit that began last; an older success never stands for one that did not finish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from audit import folder

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def begin(tmp_path):
    """Give a function that begins an audit, so many seconds after the first, as the plugin does."""

    def begun(seconds=0):
        folder.forget_latest(tmp_path)
        return folder.begin(tmp_path, BEGAN + timedelta(seconds=seconds), "0123456789abcdef")

    return begun


def latest(made):
    """Return the folder that ``latest`` points at; None where there is none."""
    link = made.parent / "latest"
    return link.readlink().name if link.is_symlink() else None


def finished(made):
    folder.finish(made)
    (made / "audit.json").write_text("{}", encoding="utf-8")
    return made


def test_an_audit_that_finishes_is_the_latest(begin):
    made = finished(begin())
    assert made.name == "20260102T030405Z-0123456789"
    assert latest(made) == made.name
    assert {path.name for path in made.iterdir()} == {"evidence", "audit.json"}


def test_an_audit_that_is_killed_leaves_no_older_success_as_the_latest(begin):
    """After kill -9 ``latest`` once showed the green report of the run before."""
    finished(begin())
    killed = begin(1)
    assert latest(killed) == killed.name
    assert not (killed.parent / "latest/audit.json").exists()
    assert "has not finished: this proves nothing" in (killed.parent / "latest/NOT-FINISHED").read_text()


def test_an_audit_that_ends_without_a_report_leaves_no_latest(begin, tmp_path):
    older = finished(begin())
    stopped = begin(1)
    folder.discard(stopped)
    assert latest(older) is None
    assert {path.name for path in tmp_path.iterdir()} == {older.name}


def test_of_two_audits_at_once_the_one_that_began_last_is_the_latest(begin):
    first, second = begin(), begin(1)
    finished(second)
    finished(first)
    assert latest(first) == second.name


def test_an_audit_beside_one_that_was_killed_later_does_not_stand_for_it(begin):
    first, killed = begin(), begin(1)
    finished(first)
    assert latest(first) == killed.name


def test_an_audit_beside_one_that_ended_without_a_report_gets_latest_back(begin):
    first, stopped = begin(), begin(1)
    folder.discard(stopped)
    assert latest(first) is None
    finished(first)
    assert latest(first) == first.name


def test_an_audit_that_ends_without_a_report_leaves_the_link_of_another(begin):
    first, second = begin(), begin(1)
    folder.discard(first)
    assert latest(second) == second.name


def test_audits_of_one_second_have_a_folder_each(begin):
    assert [begin().name[-2:] for _ in range(3)] == ["89", "-2", "-3"]


def test_what_is_no_link_is_left_alone(tmp_path):
    (tmp_path / "latest").mkdir()
    folder.forget_latest(tmp_path)
    assert (tmp_path / "latest").is_dir()
