"""Memory and time of a process are read from /proc, with its descendants'; nothing is told where there is none."""

from __future__ import annotations

import os

import pytest

from audit.serving.usage import Usage


def process(proc, pid, parent, *, name="server", ticks=(300, 100), resident=1000, peak=2000):
    folder = proc / str(pid)
    folder.mkdir()
    user, system = ticks
    stat = f"{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0"
    (folder / "stat").write_text(stat, encoding="utf-8")
    (folder / "status").write_text(f"Name:\t{name}\nVmHWM:\t{peak} kB\nVmRSS:\t{resident} kB\n", encoding="utf-8")
    return folder


@pytest.fixture
def proc(tmp_path):
    """Give a /proc with a process, its child, its grandchild, and a stranger."""
    process(tmp_path, 50, 1)
    process(tmp_path, 40, 50, name="a ) b (", ticks=(100, 0), resident=10, peak=20)
    process(tmp_path, 60, 40, ticks=(0, 100), resident=1, peak=2)
    process(tmp_path, 70, 1)
    (tmp_path / "self").mkdir()
    return tmp_path


def test_descendants_count_and_strangers_do_not(proc):
    usage = Usage(50, proc)
    assert usage.resident() == 1011 * 1024
    assert usage.peak() == 2022 * 1024
    assert usage.seconds() == 600 / os.sysconf("SC_CLK_TCK")


def test_peaks_begin_anew(proc):
    Usage(40, proc).forget_peak()
    assert (proc / "40" / "clear_refs").read_text(encoding="ascii") == "5"
    assert not (proc / "50" / "clear_refs").exists()


def test_what_has_ended_tells_nothing(proc):
    gone = Usage(99, proc)
    gone.forget_peak()
    assert (gone.resident(), gone.peak(), gone.seconds()) == (None, None, None)


def test_a_system_without_proc_tells_nothing(tmp_path):
    elsewhere = Usage(50, tmp_path / "none")
    assert (elsewhere.resident(), elsewhere.peak(), elsewhere.seconds()) == (None, None, None)
