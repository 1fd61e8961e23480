"""Processes of one thread: what they leave behind is found, what they raise is told, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from audit.errors import WorkerFailed
from audit.process import running
from audit.workers import Workers, cores

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")


@pytest.fixture
def workers():
    found = Workers(2)
    yield found
    found.close()


def alive(pid):
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def eventually(condition, seconds=20.0):
    """Wait until a condition holds; returns whether it ever did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def test_pieces_of_work_are_done_in_other_processes_and_what_they_leave_is_found(workers, tmp_path):
    finished = []
    pieces = [lambda one=one: (tmp_path / str(one)).write_text(str(os.getpid())) for one in range(5)]
    workers.side_by_side(pieces, finished.append)
    pids = {path.read_text() for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 5
    assert str(os.getpid()) not in pids
    assert finished[-1] == 5
    assert finished == sorted(finished)


def test_no_more_processes_than_asked_for_work_at_once(tmp_path):
    def piece(one):
        begun = time.monotonic()
        time.sleep(1.0)  # longer than a busy machine takes to fork
        (tmp_path / str(one)).write_text(f"{begun} {time.monotonic()}")

    Workers(2).side_by_side([lambda one=one: piece(one) for one in range(4)])
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.iterdir()]
    assert max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans) == 2


@pytest.mark.parametrize("pieces", [1, 3], ids=["one piece", "one process"])
def test_what_needs_no_second_process_is_left_to_the_parent(tmp_path, pieces):
    alone = Workers(2 if pieces == 1 else 1)
    alone.side_by_side([(tmp_path / "made").touch] * pieces)
    assert not (tmp_path / "made").exists()


def test_a_piece_that_raises_costs_the_others_nothing(workers, tmp_path):
    workers.side_by_side([lambda: 1 / 0, (tmp_path / "made").touch])
    assert (tmp_path / "made").exists()


def test_a_forked_process_has_one_thread_forks_no_further_and_writes_nothing(workers, capfd):
    def look():
        print("not to be seen")  # noqa: T201  # that is the point
        return f"{torch.get_num_threads()} {workers.count}"

    assert workers.ahead("a look", look, computes=True).result() == "1 1"
    assert "not to be seen" not in capfd.readouterr().out


def test_what_was_started_ahead_answers_when_it_is_asked(workers):
    long = "x" * 1_000_000
    answer = workers.ahead("a long answer", lambda: long, computes=False)
    assert answer.result() == long
    assert answer.result() == long
    assert answer.done_within(0.0)


def test_what_goes_wrong_ahead_is_raised_with_its_reason(workers):
    with pytest.raises(WorkerFailed, match="ZeroDivisionError: division by zero"):
        workers.ahead("a division", lambda: str(1 / 0), computes=True).result()


def test_a_process_that_is_killed_is_told_by_its_name(workers):
    doomed = workers.ahead("the doomed", lambda: os.kill(os.getpid(), signal.SIGKILL) or "", computes=False)
    with pytest.raises(WorkerFailed, match="the doomed: its process ended with -9 and said nothing"):
        doomed.result()


def test_what_computes_ahead_counts_as_one_of_the_processes(tmp_path):
    workers = Workers(2)
    go = tmp_path / "go"
    ahead = workers.ahead("training", lambda: str(eventually(go.exists)), computes=True)
    spans = tmp_path / "spans"
    spans.mkdir()

    def piece(one):
        begun = time.monotonic()
        time.sleep(0.1)
        (spans / str(one)).write_text(f"{begun} {time.monotonic()}")

    workers.side_by_side([lambda one=one: piece(one) for one in range(3)])
    go.touch()
    assert ahead.result() == "True"
    found = sorted(tuple(map(float, path.read_text().split())) for path in spans.iterdir())
    assert all(later[0] >= sooner[1] for sooner, later in pairwise(found))
    workers.close()


def test_a_process_that_becomes_free_is_used_at_once(tmp_path):
    """Else one long piece of work keeps the next waiting although what was started ahead has long ended."""
    workers = Workers(2)
    begun = tmp_path / "begun"
    workers.ahead("training", lambda: str(eventually(begun.exists)), computes=True)

    def long():
        begun.touch()
        eventually((tmp_path / "met").exists)

    def short():
        (tmp_path / "met").touch()

    before = time.monotonic()
    workers.side_by_side([long, short])
    assert (tmp_path / "met").exists()
    assert time.monotonic() - before < 15, "the second piece waited for the end of the first"
    workers.close()


def test_closing_ends_what_still_runs_and_lets_it_clean_up(tmp_path):
    workers = Workers(2)

    def wait():
        try:
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(60)
        finally:
            (tmp_path / "cleaned").touch()

    workers.ahead("waiting", lambda: str(wait()), computes=False)
    assert eventually(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    workers.close()
    assert not alive(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "cleaned").exists()


def test_nothing_outlives_a_parent_that_is_killed(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from audit.workers import Workers\n"
        "def wait():\n"
        "    Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60); return ''\n"
        "Workers(2).ahead('waiting', wait, computes=False).result()\n"
    )
    pid = tmp_path / "pid"
    with running([sys.executable, "-c", program, str(pid)], cwd=ROOT) as parent:
        assert eventually(lambda: pid.is_file() and pid.read_text())
        os.kill(parent.pid, signal.SIGKILL)  # it alone, not its group
        assert eventually(lambda: not alive(int(pid.read_text())))


def test_at_least_one_core_is_ours():
    assert 1 <= cores() <= (os.cpu_count() or 1)
