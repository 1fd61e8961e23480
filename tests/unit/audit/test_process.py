"""Outside programs: those that end, and those that go on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from audit.errors import ScannerFailed, ScannerMissing
from audit.process import LONGEST_LINE, run, running

ROOT = Path(__file__).parents[3]
IGNORES = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
PARENT += "print(p.pid, flush=True); time.sleep(60)"


def program(text):
    return [sys.executable, "-c", text]


def gone(pid):
    """Tell whether a process ends within seconds; one that nobody has waited for yet counts as ended."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_status_and_both_outputs_come_back(tmp_path):
    done = run(program("import sys; print('out'); sys.stderr.write('err'); sys.exit(3)"), cwd=tmp_path, seconds=30)
    assert (done.code, done.stdout, done.stderr, done.tail) == (3, "out\n", "err", "err")


def test_a_program_that_does_not_end_is_ended(tmp_path):
    with pytest.raises(ScannerFailed, match=r"no answer within 0\.2 s"):
        run(program("import time; time.sleep(60)"), cwd=tmp_path, seconds=0.2)


@pytest.mark.parametrize(
    "start",
    [lambda *a, **k: run(*a, seconds=1, **k), lambda *a, **k: running(*a, **k).__enter__()],
    ids=["run", "running"],
)
def test_a_program_that_is_not_there_is_missing(tmp_path, start):
    with pytest.raises(ScannerMissing, match=r"no-such-program: .*not found"):
        start(["no-such-program"], cwd=tmp_path)


def test_the_first_line_is_read_while_the_program_goes_on(tmp_path):
    with running(program("print('up', flush=True); import time; time.sleep(60)"), cwd=tmp_path) as child:
        assert child.first_line(30) == "up"
        assert child.running
    assert not child.running


@pytest.mark.parametrize("text", ["import sys; sys.stderr.write('why\\n'); sys.exit(3)", "import sys; sys.exit('why')"])
def test_a_program_that_ends_without_a_line_says_why(tmp_path, text):
    with running(program(text), cwd=tmp_path) as child:
        assert child.first_line(30) is None
        assert child.complaint == "why"


def test_a_silent_program_is_not_waited_for_for_ever(tmp_path):
    with running(program("import time; time.sleep(60)"), cwd=tmp_path) as child:
        assert child.first_line(0.2) is None


def test_a_program_that_ignores_sigterm_is_killed(tmp_path):
    with running(program(IGNORES), cwd=tmp_path) as child:
        child.first_line(30)
        assert child.stop(0.2) is None
        assert not child.running


def test_a_program_that_obeys_sigterm_tells_its_status(tmp_path):
    with running(program("import time; print('up', flush=True); time.sleep(60)"), cwd=tmp_path) as child:
        child.first_line(30)
        assert child.stop(30) == -15


def test_it_is_killed_when_the_block_is_left_by_an_error(tmp_path):
    def fail():
        with running(program(IGNORES), cwd=tmp_path) as child:
            kept.append(child)
            raise KeyError("broken")

    kept = []
    with pytest.raises(KeyError, match="broken"):
        fail()
    assert not kept[0].running


def test_what_it_started_is_killed_with_it(tmp_path):
    with running(program(PARENT), cwd=tmp_path) as child:
        grandchild = int(child.first_line(30))
    assert gone(grandchild)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, which Linux has")
def test_it_dies_with_us_when_we_are_killed(tmp_path):
    text = "import sys, time; from pathlib import Path; from audit.process import running\n"
    text += "with running([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'], "
    text += "cwd=Path.cwd()) as child:\n  print(child.first_line(30), flush=True); time.sleep(60)"
    with running(program(text), cwd=ROOT) as harness:
        child = int(harness.first_line(30))
        os.kill(harness.pid, signal.SIGKILL)
        assert gone(child)


def test_endless_complaints_do_not_stop_it_and_are_not_all_kept(tmp_path):
    noise = f"import sys; [sys.stderr.write('x' * {3 * LONGEST_LINE}) for _ in range(500)]; print('up', flush=True)"
    with running(program(noise), cwd=tmp_path) as child:
        assert child.first_line(30) == "up"
        assert len(child.complaint) <= 300


def test_the_environment_is_the_one_that_was_given(tmp_path):
    with running(program("import os; print(os.environ.get('MARK'))"), cwd=tmp_path, environment={"MARK": "1"}) as child:
        assert child.first_line(30) == "1"
