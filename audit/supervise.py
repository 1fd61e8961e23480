"""``python -m audit run``: pytest in a process of its own, believed only if it leaves the record of this very run.

Code that a policy names runs in the process of the audit, and an ``os._exit(0)`` in it would look like success; so
would pytest in a folder with other tests, or with options that run none. Exit code 0 is therefore given here, where no
code of others runs: for a record that was written after the start, bears the name drawn for this run, and says that
the gate is open.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from audit.folder import forget_latest
from audit.gate import ExitCode
from audit.process import Running, attached
from audit.records import Report

SUITE = Path(__file__).parents[1] / "tests"
TESTS = ("test_*.py", "*_test.py", "conftest.py")
CHILD = "import sys; from audit.supervised import main; sys.exit(main(sys.argv[1:]))"
ASK_FOR_NO_AUDIT = {"-h", "--help", "-V", "--version", "--fixtures", "--funcargs", "--markers"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
CLOCK_SECONDS = 2.0  # by which file systems date a file too early


def supervise(options: Sequence[str]) -> int:
    """Run the audit of the working directory in a child process, and return the exit code of its gate.

    Returns:
        0 only for a record of this run whose gate is open; 1 and 10 as its gate says; 2 where the child was interrupted
        or killed; 4 for wrong usage; 10 where it ended, whatever its exit code, without a record of this run.
    """
    wrong = wrong_suite(Path.cwd())
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
        return ExitCode.USAGE
    try:
        for named in _report_folders(options):
            forget_latest(Path.cwd() / named)  # here, for the child may end before it comes to it
    except OSError as error:
        sys.stderr.write(f"latest: expected that it can be taken away before an audit begins ({error})\n")
        return ExitCode.USAGE
    run, began = secrets.token_hex(16), time.time()
    code, answer = _run_child(run, options)
    if answer is not None and _gate_in(answer, run, began) == code:
        return code
    if ASK_FOR_NO_AUDIT & set(options):
        sys.stderr.write("no audit was run, and exit code 0 says that one was\n")
        return ExitCode.USAGE
    if code in (ExitCode.INTERRUPTED, ExitCode.USAGE):
        return code
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    sys.stderr.write(f"no gate was decided: the process of the audit {how} and left no record of this run\n")
    return ExitCode.INTERRUPTED if code < 0 else ExitCode.INCOMPLETE


def wrong_suite(root: Path) -> str | None:
    """Return why ``tests/`` of a folder is not the suite of this project; None where it is."""
    ours, here = _tests(SUITE), _tests(root / "tests")
    if ours and here == ours:
        return None
    other = ", ".join(sorted(name for name in ours.keys() | here.keys() if ours.get(name) != here.get(name)))
    return (
        "tests: expected this project's own suite, whose items are the requirements of a policy "
        f"(got {f'another {other}' if here else 'no tests in this folder'}); "
        "run it in the project's folder, and name a policy that lies elsewhere with --policy FILE"
    )


def _tests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the test files of a folder by name, those of folders in it apart."""
    files = {path for pattern in TESTS for path in folder.glob(pattern)}
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def _report_folders(options: Sequence[str]) -> list[str]:
    """Return where an audit is to make reports, if one is asked for; the parser of the options is the child's."""
    if ASK_FOR_NO_AUDIT & set(options):
        return []
    named = [after for one, after in pairwise(options) if one == "--report-dir"]
    named += [one.partition("=")[2] for one in options if one.startswith("--report-dir=")]
    return named or ["reports"]


def _run_child(run: str, options: Sequence[str]) -> tuple[int, str | None]:
    """Run pytest to its end; returns its exit code, and what it left in the file that it was given, if anything."""
    words = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-c", CHILD]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        with _signals_waiting():
            words += [str(os.getpid()), str(answer), run, *options]
            code = _end_of(attached(words, environment=_environment()))
        return code, answer.read_text(encoding="utf-8", errors="replace") if answer.is_file() else None


def _environment() -> dict[str, str]:
    """Return ours without what would give pytest other options and plug-ins."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**plain, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@contextmanager
def _signals_waiting() -> Iterator[None]:
    """Keep signals back while the span lasts, where one can wait for them; the child lets them through again."""
    if not hasattr(signal, "sigwaitinfo"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_heeded(), signal.SIGCHLD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_of(child: Running) -> int:
    """Wait for a child, handing on what other processes signal; what the terminal signals reaches it by itself."""
    if not hasattr(signal, "sigwaitinfo"):
        return _end_without_waiting_for_signals(child)
    heeded = (*_heeded(), signal.SIGCHLD)
    while child.poll() is None:
        told = signal.sigwaitinfo(heeded)
        if told.si_signo != signal.SIGCHLD and told.si_code <= 0:  # SI_USER and its like; the terminal's are SI_KERNEL
            child.send_signal(told.si_signo)
    return child.returncode


def _heeded() -> list[signal.Signals]:
    """Return the signals that end an audit, but for those that whoever started us wants ignored, as ``nohup`` does."""
    return [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]


def _end_without_waiting_for_signals(child: Running) -> int:
    before = {one: signal.getsignal(one) for one in _heeded()}
    try:
        for one in before:
            signal.signal(one, signal.SIG_IGN if one is signal.SIGINT else lambda got, _: child.send_signal(got))
        return child.wait()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _gate_in(answer: str, run: str, began: float) -> int | None:
    """Return the exit code of the gate in the record of this run; None where that record is not there."""
    try:
        told = json.loads(answer)
        path = Path(told["folder"]) / "audit.json"
        report = Report.model_validate_json(path.read_bytes())
        ours = told["run"] == report.provenance["run"] == run and path.stat().st_mtime >= began - CLOCK_SECONDS
    except (OSError, ValueError, KeyError, TypeError):
        return None
    gate = report.gate
    return gate.exit_code if ours and gate.open is (gate.exit_code == ExitCode.OPEN) else None
