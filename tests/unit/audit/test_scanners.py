"""Scanners: each finds the planted file, is clean on a clean one, and never turns silence into green."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest
from pydantic import ValidationError

from audit import tools
from audit.errors import ScannerFailed, ScannerMissing
from audit.examine import coverage_probes
from audit.process import run
from audit.programs import find_program
from audit.scanners import CODE_SCANNERS, Bandit, DetectSecrets, Semgrep
from audit.scanners.comments import suppressions
from audit.scanners.interface import Acceptance, Scan

ROOT = Path(__file__).parents[3]
PYTHON = sys.executable
pytestmark = pytest.mark.usefixtures("_children_go_unmeasured")
SCANNERS = {"bandit": Bandit(), "semgrep": Semgrep(rules="policies/semgrep"), "detect-secrets": DetectSecrets()}
PLANTS = ("vulnerable.py.txt", "secrets.py.txt")
PASSWORD = "-".join(["correct", "horse", "battery"])  # no literal: see STAT-003


@pytest.fixture
def folder(tmp_path):
    """Give a folder with a planted file, made of the controls of all scanners, and a clean one."""
    texts = [(ROOT / "policies/controls" / name).read_text(encoding="utf-8") for name in PLANTS]
    (tmp_path / "planted.py").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "clean.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n", encoding="utf-8")
    return tmp_path


def program(path, script):
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{PYTHON}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_tool(folder, monkeypatch, script):
    """Put a program of our own in the place of the interpreter that runs the tools."""
    monkeypatch.setattr(sys, "executable", str(program(folder / "bin/python", script)))


def test_every_scanner_is_tested_here():
    assert set(SCANNERS) == set(CODE_SCANNERS)


@pytest.mark.parametrize("name", SCANNERS)
def test_planted_file_is_found_and_clean_one_is_clean(folder, name):
    scan = SCANNERS[name].scan(folder, ["planted.py", "clean.py"], ROOT)
    assert {finding.path for finding in scan.findings} == {"planted.py"}
    assert len(scan.findings) >= 3
    assert scan.files_read == ("clean.py", "planted.py")
    assert scan.lines_read > 10


@pytest.mark.parametrize("name", ["bandit", "semgrep"])
def test_syntax_error_is_not_clean(tmp_path, name):
    (tmp_path / "broken.py").write_text("def f(:\n", encoding="utf-8")
    scan = SCANNERS[name].scan(tmp_path, ["broken.py"], ROOT)
    assert not all(probe.passed for probe in coverage_probes(scan, ["broken.py"]))


@pytest.mark.parametrize("name", SCANNERS)
def test_missing_tool_is_named(folder, monkeypatch, name):
    monkeypatch.setattr(tools, "site_folders", lambda: [str(folder)])
    with pytest.raises(ScannerMissing, match=f"{name}: expected beside this Python"):
        SCANNERS[name].scan(folder, ["clean.py"], ROOT)


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize(
    "script", ["print('hello')", "print('{}')", "raise SystemExit(7)"], ids=["text", "other JSON", "silence"]
)
def test_garbage_is_a_failure(folder, monkeypatch, name, script):
    fake_tool(folder, monkeypatch, script)
    with pytest.raises(ScannerFailed, match=f"{name}: expected its JSON"):
        SCANNERS[name].scan(folder, ["clean.py"], ROOT)


def test_broken_rules_are_a_failure(folder):
    (folder / "rules.yaml").write_text("rules:\n  - id: x\n    languages: [python]\n", encoding="utf-8")
    with pytest.raises(ScannerFailed, match="semgrep: exit"):
        Semgrep(rules="rules.yaml").scan(folder, ["clean.py"], folder)


def test_program_that_does_not_end_is_stopped(tmp_path):
    with pytest.raises(ScannerFailed, match=r"no answer within 0\.2 s"):
        run([sys.executable, "-c", "import time; time.sleep(30)"], cwd=tmp_path, seconds=0.2)


def test_program_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(ScannerMissing, match="expected on PATH"):
        find_program("no-such-tool-anywhere")
    with pytest.raises(ScannerMissing, match="not found"):
        run(["/no/such/tool"], cwd=tmp_path, seconds=1)


def test_file_left_out_and_nothing_read_are_not_clean():
    empty = Scan(tool="t", version="1", files_read=(), lines_read=0, findings=())
    assert not coverage_probes(empty, [])[0].passed
    partly = empty.model_copy(update={"files_read": ("a.py",)})
    assert "left out: b.py" in coverage_probes(partly, ["a.py", "b.py"])[0].detail


def test_acceptance_holds_for_its_rule_and_path_only(folder):
    everywhere = Acceptance(rule="B307", path="planted.py", reason="a reason long enough")
    scan = Bandit(accept=(everywhere,)).scan(folder, ["planted.py"], ROOT)
    assert "B307" not in {finding.rule for finding in scan.findings}
    assert "B301" in {finding.rule for finding in scan.findings}
    assert [one.what for one in scan.suppressions] == ["B307"]


def test_acceptance_of_a_line_holds_for_the_whole_line_only(tmp_path):
    digests = [hashlib.sha256(bytes([value])).hexdigest() for value in range(2)]
    (tmp_path / "a.yaml").write_text(f"sha256: {digests[0]}\nother_sha256: {digests[1]}\n", encoding="utf-8")
    pins = Acceptance(
        rule="hex-high-entropy-string", path="*.yaml", line="sha256: [0-9a-f]{64}", reason="a digest of public data"
    )
    scan = DetectSecrets(accept=(pins,)).scan(tmp_path, ["a.yaml"], ROOT)
    assert [finding.line for finding in scan.findings] == [2]
    assert [(one.line, one.reason) for one in scan.suppressions] == [(1, "a digest of public data")]


def test_acceptance_needs_a_regular_expression():
    with pytest.raises(ValidationError, match=r"expected a regular expression \(got '\('"):
        Acceptance(rule="x", path="*", line="(", reason="a reason long enough")


def test_suppression_is_listed_and_without_rule_or_reason_it_is_a_finding(tmp_path):
    (tmp_path / "a.py").write_text(
        "x = 1  # nosec B101  # a reason long enough\ny = 2  # nosec\nz = '# nosec in a string'\n"
        "w = 3  # nosec B102\nv = 4  # nosec  # a reason but no rule\n",
        encoding="utf-8",
    )
    listed, findings = suppressions(tmp_path, ["a.py"], "nosec", "bandit")
    assert [(one.line, one.what, one.reason) for one in listed] == [
        (1, "B101", "a reason long enough"),
        (2, "", "none"),
        (4, "B102", "none"),
        (5, "", "a reason but no rule"),
    ]
    assert [finding.line for finding in findings] == [2, 4, 5]


@pytest.mark.parametrize(
    "comment",
    [
        "# nosec",
        "# nosecurity, NOSEM",
        "# nosec_B307 reviewed",
        "# nosem",
        "# NOSEMGREP",
        "# type: ignore nosemgrep",
        "# nosec B101  # another rule than the one that fires",
    ],
)
def test_loose_suppression_has_no_effect(tmp_path, comment):
    """Bandit and semgrep honour all of these on their own, and nobody would see it."""
    (tmp_path / "a.py").write_text(f"def f(text):\n    return eval(text)  {comment}\n", encoding="utf-8")
    assert "B307" in {finding.rule for finding in SCANNERS["bandit"].scan(tmp_path, ["a.py"], ROOT).findings}
    if "nosem" in comment.lower():
        found = SCANNERS["semgrep"].scan(tmp_path, ["a.py"], ROOT).findings
        assert "evaluated-code" in {finding.rule for finding in found}


def test_suppression_with_rule_and_reason_lifts_its_own_finding_only(tmp_path):
    source = (
        "import pickle  # nosec B403  # a reason long enough\n\n\ndef f(text):\n"
        "    return eval(text)  # nosec B307  # a reason long enough\n\n\ndef g(text):\n    return eval(text)\n"
    )
    (tmp_path / "a.py").write_text(source, encoding="utf-8")
    scan = SCANNERS["bandit"].scan(tmp_path, ["a.py"], ROOT)
    assert [(finding.rule, finding.line) for finding in scan.findings] == [("B307", 9)]
    assert len(scan.suppressions) == 2


def test_comment_that_lifts_nothing_is_a_finding(tmp_path):
    (tmp_path / "a.py").write_text("x = 1  # nosec B307  # a reason long enough\n", encoding="utf-8")
    scan = SCANNERS["bandit"].scan(tmp_path, ["a.py"], ROOT)
    assert [(finding.rule, finding.line) for finding in scan.findings] == [("unused-suppression", 1)]
    assert "no finding of B307 on this line" in scan.findings[0].message


def test_our_own_tree_has_at_most_four_suppressions():
    sources = sorted(
        str(path.relative_to(ROOT)) for part in ("audit", "model_under_test") for path in (ROOT / part).rglob("*.py")
    )
    listed = [one for mark in ("nosec", "nosemgrep") for one in suppressions(ROOT, sources, mark, mark)[0]]
    assert len(listed) <= 4


def test_secret_in_a_file_that_the_tool_would_pass_over_is_found(tmp_path):
    """Its worker processes forget that the filter of style sheets is off, so those files are read one by one."""
    for name in ("a.css", "b.css", "poetry.lock", "swagger.yaml", "c.txt"):
        (tmp_path / name).write_text(f'password = "{PASSWORD}"  # pragma: allowlist secret\n', encoding="utf-8")
    names = sorted(path.name for path in tmp_path.iterdir())
    scan = DetectSecrets().scan(tmp_path, names, ROOT)
    assert {finding.path for finding in scan.findings} == set(names)
    assert scan.files_read == tuple(names)


def test_binary_file_is_not_clean(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00secret")
    (tmp_path / "b.txt").write_text("nothing here\n", encoding="utf-8")
    scan = DetectSecrets().scan(tmp_path, ["a.bin", "b.txt"], ROOT)
    assert scan.files_read == ("b.txt",)
    assert [probe.passed for probe in coverage_probes(scan, ["a.bin", "b.txt"])] == [False, False]
    assert scan.errors == ("a.bin: not UTF-8 text, so nothing in it was read",)


def test_file_that_detect_secrets_did_not_open_is_not_clean(folder, monkeypatch):
    answer = f'{{"results": {{}}, "version": "{metadata.version("detect-secrets")}"}}'
    fake_tool(folder, monkeypatch, f"print({answer!r})")
    scan = DetectSecrets().scan(folder, ["clean.py"], ROOT)
    assert scan.findings == scan.files_read == ()
    assert not coverage_probes(scan, ["clean.py"])[0].passed


def test_no_secret_and_no_hash_of_one_leaves_the_scanner(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(f'password = "{PASSWORD}"\n', encoding="utf-8")
    scan = DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    assert [finding.rule for finding in scan.findings] == ["secret-keyword"]
    fake_tool(tmp_path, monkeypatch, f"import sys; sys.exit('Skipping {PASSWORD}')")
    with pytest.raises(ScannerFailed, match="detect-secrets: expected its JSON, got exit 1") as failure:
        DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    for text in (scan.model_dump_json(), str(failure.value)):
        assert PASSWORD not in text
        assert hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest() not in text


@pytest.fixture
def asked():
    """Give a proxy on loopback that answers nothing, and a list of who connected to it."""
    callers = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                callers.append(caller.recv(100))
                caller.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", callers


def test_detect_secrets_never_asks_the_network_whether_a_secret_lives(tmp_path, monkeypatch, asked):
    token = "-".join(["xoxb", "1" * 12, "abcdefghijklmnopqrstuvwx"])
    (tmp_path / "a.py").write_text(f'TOKEN = "{token}"\n', encoding="utf-8")
    address, callers = asked
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, address)
    scan = DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    assert "slack-token" in {finding.rule for finding in scan.findings}
    assert callers == []
    run([*tools.python_tool("detect-secrets"), "scan", "a.py"], cwd=tmp_path, seconds=60)
    assert callers, "the proxy must see what the tool asks by default"


@pytest.mark.parametrize("name", SCANNERS)
def test_fake_tool_on_path_is_not_run(folder, monkeypatch, name):
    """Found on PATH, it would say what it likes; this one says what the true one does."""
    ran, true = folder / "ran", tools.python_tool(name)
    passing_on = f"os.execv({true[0]!r}, {true!r} + sys.argv[1:])"
    program(folder / "bin" / name, f"import os, sys\nopen({str(ran)!r}, 'w').close()\n{passing_on}")
    program(folder / "bin/semgrep-core", f"open({str(ran)!r}, 'w')")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert SCANNERS[name].scan(folder, ["planted.py"], ROOT).findings
    assert not ran.exists()


@pytest.mark.parametrize("name", SCANNERS)
def test_tool_on_pythonpath_or_in_the_working_folder_is_not_run(folder, monkeypatch, name):
    ran = folder / "ran"
    program(folder / name.replace("-", "_") / "__init__.py", f"open({str(ran)!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert SCANNERS[name].scan(folder, ["planted.py"], ROOT).findings
    assert not ran.exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("SEMGREP_BASELINE_COMMIT", "HEAD"), ("SEMGREP_TIMEOUT", "0"), ("GIT_DIR", "/nowhere")]
)
def test_variable_does_not_configure_a_scanner(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert variable not in tools.environment()


def test_version_is_what_the_tool_prints(folder, monkeypatch):
    assert Bandit().scan(folder, ["clean.py"], ROOT).version == metadata.version("bandit")
    fake_tool(folder, monkeypatch, "print('bandit 0.0.1')")
    with pytest.raises(ScannerFailed, match=r"bandit: the tool that ran says it is version '0\.0\.1'"):
        tools.printed_version("bandit")
    clean = json.dumps({"metrics": {"clean.py": {}, "_totals": {"loc": 2}}, "results": [], "errors": []})
    fake_tool(folder, monkeypatch, f"import sys\nprint('bandit 0.0.1' if '--version' in sys.argv else {clean!r})")
    with pytest.raises(ScannerFailed, match=r"bandit: the tool that ran says it is version '0\.0\.1'"):
        Bandit().scan(folder, ["clean.py"], ROOT)
    fake_tool(folder, monkeypatch, 'print(\'{"results": {}, "version": "0.0.1"}\')')
    with pytest.raises(ScannerFailed, match=r"detect-secrets: the tool that ran says it is version '0\.0\.1'"):
        DetectSecrets().scan(folder, ["clean.py"], ROOT)
    answer = {"results": [], "errors": [], "paths": {"scanned": ["clean.py"]}, "version": "0.0.1"}
    fake_tool(folder, monkeypatch, f"print({json.dumps(answer)!r})")
    with pytest.raises(ScannerFailed, match=r"semgrep: the tool that ran says it is version '0\.0\.1'"):
        SCANNERS["semgrep"].scan(folder, ["clean.py"], ROOT)


def test_file_with_the_name_of_an_option_is_a_file(tmp_path):
    for name in ("-sB307", "--exit-zero.py"):
        (tmp_path / name).write_text("#!/usr/bin/env python3\neval(input())\n", encoding="utf-8")
    for name in ("bandit", "semgrep"):
        scan = SCANNERS[name].scan(tmp_path, ["-sB307", "--exit-zero.py"], ROOT)
        assert {finding.path for finding in scan.findings} == {"-sB307", "--exit-zero.py"}


WEAK = "import subprocess\n\n\ndef run(text):\n    return subprocess.run(text, shell=True)\n"
NOTEBOOK_CELLS = [
    {"cell_type": "markdown", "source": "eval(input())"},
    {"cell_type": "code", "source": ["%matplotlib inline\n", "import subprocess\n"]},
    {"cell_type": "code", "source": ["def run(text):\n", "    return subprocess.run(text, shell=True)"]},
]


def notebook(cells, **about):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **about})


@pytest.fixture
def forms(tmp_path):
    """Give a folder with the same weakness as a script, a module without console, a notebook, and outside of it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "script").write_text(f"#!/usr/bin/env python3\n{WEAK}", encoding="utf-8")
    (folder / "window.pyw").write_text(WEAK, encoding="utf-8")
    (folder / "work.ipynb").write_text(notebook(NOTEBOOK_CELLS), encoding="utf-8")
    (tmp_path / "factory.py").write_text(WEAK, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("name", "rule"), [("bandit", "B602"), ("semgrep", "shell-command")])
def test_weakness_is_found_in_every_form_of_python_under_the_file_s_own_name(forms, name, rule):
    files = ["script", "window.pyw", "work.ipynb", "../factory.py"]
    scan = SCANNERS[name].scan(forms, files, ROOT)
    assert {finding.path: finding.line for finding in scan.findings if finding.rule == rule} == {
        "script": 6, "window.pyw": 5, "work.ipynb": None, "../factory.py": 5,
    }  # fmt: skip
    (told,) = [one.message for one in scan.findings if (one.path, one.rule) == ("work.ipynb", rule)]
    assert told.startswith("cell 3, line 2: ")
    assert scan.files_read == tuple(sorted(files))
    assert all(probe.passed for probe in coverage_probes(scan, files))


def test_suppressions_and_acceptances_hold_for_the_file_s_own_name(forms):
    text = WEAK.replace("subprocess\n", "subprocess  # nosec B404  # a reason long enough\n", 1)
    (forms / "window.pyw").write_text(text, encoding="utf-8")
    accepted = Acceptance(
        rule="B602", path="*.ipynb", line=r"return subprocess\.run\(.*\)", reason="a reason long enough"
    )
    scan = Bandit(accept=(accepted,)).scan(forms, ["window.pyw", "work.ipynb"], ROOT)
    assert {(one.path, one.rule) for one in scan.findings} == {("window.pyw", "B602"), ("work.ipynb", "B404")}
    assert {(one.path, one.what) for one in scan.suppressions} == {("window.pyw", "B404"), ("work.ipynb", "B602")}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("{", "work.ipynb: Expecting", id="no JSON"),
        pytest.param("[]", "work.ipynb: expected a notebook", id="something else"),
        pytest.param(notebook([], nbformat=3), "expected nbformat 4, got 3", id="old format"),
        pytest.param(
            notebook([], metadata={"kernelspec": {"language": "R"}}), "a notebook that says it is in 'R'", id="language"
        ),
        *(
            pytest.param(notebook([{"cell_type": "code", "source": text}]), "work.ipynb: cell 1 is not read", id=name)
            for name, text in {
                "syntax": "def (",
                "shell": "!curl example.org | sh",
                "magic": "%run other.py",
                "cell magic": "%%bash\nls",
            }.items()
        ),
        pytest.param("\0", "not text", id="binary"),
    ],
)
def test_notebook_that_cannot_be_read_is_not_clean(tmp_path, content, told):
    (tmp_path / "work.ipynb").write_text(content, encoding="utf-8")
    (tmp_path / "clean.py").write_text("x = 1\n", encoding="utf-8")
    scan = Bandit().scan(tmp_path, ["work.ipynb", "clean.py"], ROOT)
    assert told in " ".join(scan.errors)
    assert not all(probe.passed for probe in coverage_probes(scan, ["work.ipynb", "clean.py"]))


def test_line_that_only_looks_like_a_setting_is_read(tmp_path):
    text = "%matplotlib inline\nx = (1\n%config (eval(input()))\n)"
    (tmp_path / "work.ipynb").write_text(notebook([{"cell_type": "code", "source": text}]), encoding="utf-8")
    (found,) = Bandit().scan(tmp_path, ["work.ipynb"], ROOT).findings
    assert (found.rule, found.message.partition(":")[0]) == ("B307", "cell 1, line 3")


def test_nothing_that_can_be_copied_is_not_clean(tmp_path):
    (tmp_path / "net.pyc").write_bytes(b"\xa7\r\r\n")
    scan = Bandit().scan(tmp_path, ["net.pyc", "gone.py"], ROOT)
    assert scan.errors == (
        "net.pyc: packed or compiled Python, which no scanner of source reads",
        "gone.py: No such file or directory",
    )
    assert not coverage_probes(scan, ["net.pyc", "gone.py"])[0].passed


def test_honest_notebook_is_clean(tmp_path):
    cells = [
        {"cell_type": "code", "source": "%load_ext autoreload\n%autoreload 2\n%time x = sum([1, 2])"},
        {"cell_type": "code", "source": "%%timeit -n 3\nfor i in range(3):\n    x = (7\n%  3)"},
        {"cell_type": "code", "source": ""},
    ]
    (tmp_path / "work.ipynb").write_text(notebook(cells), encoding="utf-8")
    scan = Bandit().scan(tmp_path, ["work.ipynb"], ROOT)
    assert (scan.errors, scan.findings) == ((), ())
