"""``python -m audit run`` returns 0 for the record of this very run and its open gate, and for nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from configparser import ConfigParser
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit import folder
from audit import supervise as supervision
from audit.process import running
from audit.records import Gate, Report
from audit.supervise import supervise, wrong_suite
from tests.unit.audit.conftest import INI

ROOT = Path(__file__).parents[3]


def record(code, *, is_open=None, run="RUN"):
    """Return audit.json of an audit whose gate says so."""
    gate = Gate(open=code == 0 if is_open is None else is_open, exit_code=code, sentence="so it is")
    return Report(
        gate=gate, policy={}, target={}, partial=False, verdicts=(), exhibits=(), waivers=(), notes=(),
        stride_matrix=None, provenance={"run": run},
    ).model_dump_json()  # fmt: skip


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Work in a folder whose tests are the project's."""
    (tmp_path / "tests").mkdir()
    for path in (ROOT / "tests").glob("test_*.py"):
        shutil.copy(path, tmp_path / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ends(monkeypatch, *lines, text="", told="RUN", age=0.0):
    """Have the child be a program that leaves a record, perhaps, and goes on with these lines."""
    program = [
        "import json, os, signal, sys, time",
        "from pathlib import Path",
        "parent, answer, run, *options = sys.argv[1:]",
        "Path('made').mkdir()",
        f"text = {text!r}.replace('RUN', run)",
        "Path('made/audit.json').write_text(text) if text else None",
        f"os.utime('made/audit.json', (time.time() - {age},) * 2) if text else None",
        f"told = {{'run': {told!r}.replace('RUN', run), 'folder': str(Path('made').resolve())}}",
        "Path(answer).write_text(json.dumps(told)) if text else None",
        *lines,
    ]
    monkeypatch.setattr(supervision, "CHILD", "\n".join(program))


@pytest.mark.parametrize("code", [0, 1, 10])
def test_the_gate_in_the_record_of_this_run_is_the_exit_code(suite, monkeypatch, code):
    ends(monkeypatch, f"sys.exit({code})", text=record(code))
    assert supervise([]) == code


@pytest.mark.parametrize(
    "left",
    [
        pytest.param({}, id="nothing: os._exit(0), --collect-only, other tests"),
        pytest.param({"text": record(10)}, id="a gate that says otherwise"),
        pytest.param({"text": record(0, is_open=False)}, id="a closed gate with exit code 0"),
        pytest.param({"text": record(0, run="0" * 32)}, id="the record of another run"),
        pytest.param({"text": record(0), "told": "0" * 32}, id="an answer that does not know the name"),
        pytest.param({"text": record(0), "age": 3600.0}, id="a record from before the start"),
        pytest.param({"text": "{}"}, id="no record"),
        pytest.param({"text": "not JSON"}, id="no JSON"),
    ],
)
def test_exit_code_0_without_the_record_of_this_run_is_10(suite, monkeypatch, capfd, left):
    """A network that calls os._exit(0), and a folder with tests of its own, once ended with 0 and no report."""
    ends(monkeypatch, "os._exit(0)", **left)
    assert supervise([]) == 10
    assert "no gate was decided: the process of the audit ended with exit code 0" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "code"),
    [("sys.exit(1)", 10), ("sys.exit(2)", 2), ("sys.exit(3)", 10), ("sys.exit(4)", 4), ("sys.exit(5)", 10)]
    + [(f"os.kill(os.getpid(), signal.{name})", 2) for name in ("SIGKILL", "SIGSEGV")],
)
def test_without_a_record_only_documented_exit_codes_are_left(suite, monkeypatch, line, code):
    ends(monkeypatch, line)
    assert supervise([]) == code


@pytest.mark.parametrize("option", ["--help", "--version", "--markers"])
def test_what_asks_for_no_audit_is_no_success(suite, monkeypatch, capfd, option):
    ends(monkeypatch, "sys.exit(0)")
    assert supervise([option]) == 4
    assert "no audit was run" in capfd.readouterr().err


@pytest.mark.parametrize("options", [[], ["--report-dir", "elsewhere"], ["--report-dir=elsewhere"], ["--help"]])
def test_an_audit_killed_before_it_began_leaves_no_older_report_as_the_latest(suite, monkeypatch, options):
    """While it imports torch, or when it cannot."""
    reports = suite / ("elsewhere" if "elsewhere" in " ".join(options) else "reports")
    folder.finish(folder.begin(reports, datetime(2026, 1, 2, tzinfo=UTC), None))
    ends(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    supervise(options)
    assert (reports / "latest").is_symlink() == (options == ["--help"])


def test_ci_believes_the_exit_code_of_a_supervised_run():
    commands = ConfigParser()
    commands.read_string((ROOT / "tox.ini").read_text(encoding="utf-8"))
    assert commands.get("testenv:audit", "commands", raw=True).startswith("python -m audit run ")
    assert "tox -e audit " in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Use it wherever an exit code decides, as CI does." in readme


def test_a_folder_with_tests_of_its_own_is_a_usage_error(tmp_path, monkeypatch, capfd):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_own.py").write_text("def test_own():\n    pass\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervision, "CHILD", "raise SystemExit('started')")
    assert supervise([]) == 4
    err = capfd.readouterr().err
    assert "tests: expected this project's own suite" in err
    assert "got another test_artifact.py, " in err
    assert "name a policy that lies elsewhere with --policy FILE" in err


def test_the_suite_is_the_projects_own_file_by_file(suite):
    assert wrong_suite(ROOT) is None
    assert wrong_suite(suite) is None
    (suite / "tests/conftest.py").write_text("", encoding="utf-8")
    assert "got another conftest.py" in wrong_suite(suite)
    shutil.rmtree(suite / "tests")
    assert "got no tests in this folder" in wrong_suite(suite)


def test_the_environment_gives_pytest_no_options_and_no_plugins(suite, monkeypatch):
    """PYTEST_ADDOPTS=--collect-only once made an audit of nothing that ended with 0."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.setenv(name, "--collect-only")
    left = (
        "Path('environment').write_text(json.dumps({k: v for k, v in os.environ.items() if k.startswith('PYTEST_')}))"
    )
    ends(monkeypatch, left)
    supervise([])
    assert json.loads((suite / "environment").read_text()) == {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


SLEEPS = """
import os, sys, time
from pathlib import Path
from audit import supervised

def main(words, plugins):
    Path("child").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)  # cleaning up, which a second interrupt would cut short
        return 2

supervised.pytest.main = main
sys.exit(supervised.main(sys.argv[1:]))
"""
PARENT = """
import signal, sys
from audit import supervise
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit that it is ignored
supervise.CHILD = sys.argv[1]
sys.exit(supervise.supervise([]))
"""


@pytest.fixture
def parent(suite, monkeypatch):
    """Start a supervised run whose child sleeps; gives the parent, and the child's process number."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with running([sys.executable, "-c", PARENT, SLEEPS], cwd=suite, environment=environment) as started:
        told = suite / "child"
        while not (told.is_file() and told.read_text()):
            assert started.running, started.complaint
            time.sleep(0.02)
        yield started, int(told.read_text())


def gone(number):
    """Tell whether a process is gone, or is about to be."""
    for _ in range(500):
        try:
            if Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_parent_interrupts_the_child_which_cleans_up(parent, told):
    started, child = parent
    os.kill(started.pid, told)
    assert started.wait(20) == 2
    assert gone(child)


def test_a_signal_to_the_whole_process_group_interrupts_once(parent):
    """It reaches the child twice, of itself and by the parent; the second once cut short what cleans up."""
    started, child = parent
    os.killpg(os.getpgid(child), signal.SIGTERM)
    assert started.wait(20) == 2
    assert gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child outlives its parent")
def test_the_child_dies_with_its_parent(parent):
    started, child = parent
    os.kill(started.pid, signal.SIGKILL)
    assert gone(child)


def test_an_audit_that_decides_its_gate_is_0_and_its_record_bears_the_name_of_the_run(toy_audit):
    toy_audit.pytester.makeini(INI.replace("addopts =", "addopts = --strict-markers --strict-config"))
    result = toy_audit.audit("--only", "PERF-001", supervised=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["PARTIAL audit. The gate is OPEN*", "report: *"])
    assert len(toy_audit.report()["provenance"]["run"]) == 32


LEAVES = """
import os
from torch import nn

class Leaving(nn.Module):
    def forward(self, x):
        os._exit(0)

def network():
    return Leaving()
"""


@pytest.mark.parametrize("where", ["forward pass", "import"])
def test_code_that_a_policy_names_cannot_end_an_audit_with_0(toy_audit, where):
    """os._exit(0) in a forward pass, or at import, once was a passed gate without a report; now it ends itself only."""
    toy_audit.write("leaving.py", LEAVES if where == "forward pass" else "import os\nos._exit(0)\n")
    toy_audit.policy["targets"]["leaving"] = {"factory": "leaving.py:network"}
    result = toy_audit.audit("--only", "PERF-001", "--target", "leaving", supervised=True)
    if where == "import":
        assert result.ret == 4
        assert not (toy_audit.root / "reports/latest/audit.json").exists()
    else:
        assert result.ret == 10
        assert "its process ended before it answered" in toy_audit.verdicts()["PERF-001"]["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-c", "other.ini"], "*-c: an audit examines every requirement*"),
        (["--rootdir", "."], "*--rootdir: an audit examines*"),
        (["-p", "tests.unit.toy"], "*-p tests.unit.toy: an audit examines*"),
        (["-o", "addopts="], "*-o addopts=: an audit examines*"),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_the_configuration_of_a_supervised_audit_is_the_projects(toy_audit, options, message):
    (toy_audit.root / "other.ini").write_text((toy_audit.root / "tox.ini").read_text(), encoding="utf-8")
    result = toy_audit.audit(*options, supervised=True)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
