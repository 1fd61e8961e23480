"""Scanners: each finds the planted file, is clean on a clean one, and never turns silence into green."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from audit.errors import ScannerFailed, ScannerMissing
from audit.examine import coverage_probes
from audit.process import find_tool, run
from audit.scanners import CODE_SCANNERS, Bandit, Semgrep
from audit.scanners.comments import suppressions
from audit.scanners.interface import Acceptance, Scan

ROOT = Path(__file__).parents[3]
SCANNERS = {"bandit": Bandit(), "semgrep": Semgrep(rules="policies/semgrep")}
PLANT = (ROOT / "policies/controls/vulnerable.py.txt").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "planted.py").write_text(PLANT, encoding="utf-8")
    (tmp_path / "clean.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n", encoding="utf-8")
    return tmp_path


def fake_tool(folder, monkeypatch, name, script):
    """Put a program of our own in front of the real one on PATH."""
    tool = folder / "bin" / name
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))


def test_every_scanner_is_tested_here():
    assert set(SCANNERS) == set(CODE_SCANNERS)


@pytest.mark.parametrize("name", SCANNERS)
def test_planted_file_is_found_and_clean_one_is_clean(folder, name):
    scan = SCANNERS[name].scan(folder, ["planted.py", "clean.py"], ROOT)
    assert {finding.path for finding in scan.findings} == {"planted.py"}
    assert len(scan.findings) >= 4
    assert scan.files_read == ("clean.py", "planted.py")
    assert scan.lines_read > 10


@pytest.mark.parametrize("name", SCANNERS)
def test_syntax_error_is_not_clean(tmp_path, name):
    (tmp_path / "broken.py").write_text("def f(:\n", encoding="utf-8")
    scan = SCANNERS[name].scan(tmp_path, ["broken.py"], ROOT)
    assert not all(probe.passed for probe in coverage_probes(scan, ["broken.py"]))


@pytest.mark.parametrize("name", SCANNERS)
def test_missing_tool_is_named(folder, monkeypatch, name):
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(ScannerMissing, match=f"{name}: expected on PATH"):
        SCANNERS[name].scan(folder, ["clean.py"], ROOT)


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize(
    "script", ["print('hello')", "print('{}')", "raise SystemExit(7)"], ids=["text", "other JSON", "silence"]
)
def test_garbage_is_a_failure(folder, monkeypatch, name, script):
    fake_tool(folder, monkeypatch, name, script)
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
        find_tool("no-such-tool-anywhere")
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


def test_our_own_tree_has_at_most_four_suppressions():
    sources = sorted(
        str(path.relative_to(ROOT)) for part in ("audit", "model_under_test") for path in (ROOT / part).rglob("*.py")
    )
    listed = [one for mark in ("nosec", "nosemgrep") for one in suppressions(ROOT, sources, mark, mark)[0]]
    assert len(listed) <= 4
