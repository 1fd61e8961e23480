"""Scanners: each finds the planted file, is clean on a clean one, and never turns silence into green."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from audit.errors import ScannerFailed, ScannerMissing
from audit.examine import coverage_probes
from audit.process import find_tool, run
from audit.scanners import CODE_SCANNERS, Bandit, DetectSecrets, Semgrep
from audit.scanners.comments import suppressions
from audit.scanners.interface import Acceptance, Scan

ROOT = Path(__file__).parents[3]
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
    fake_tool(folder, monkeypatch, "detect-secrets", "print('{\"results\": {}}')")
    scan = DetectSecrets().scan(folder, ["clean.py"], ROOT)
    assert scan.findings == scan.files_read == ()
    assert not coverage_probes(scan, ["clean.py"])[0].passed


def test_no_secret_and_no_hash_of_one_leaves_the_scanner(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(f'password = "{PASSWORD}"\n', encoding="utf-8")
    scan = DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    assert [finding.rule for finding in scan.findings] == ["secret-keyword"]
    fake_tool(tmp_path, monkeypatch, "detect-secrets", f"import sys; sys.exit('Skipping {PASSWORD}')")
    with pytest.raises(ScannerFailed, match="detect-secrets: expected its JSON, got exit 1") as failure:
        DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    for text in (scan.model_dump_json(), str(failure.value)):
        assert PASSWORD not in text
        assert hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest() not in text


TRAP = """
import pathlib, socket

def refuse(*arguments, **options):
    pathlib.Path({marker!r}).touch()
    raise OSError("no network in this test")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
"""


def test_detect_secrets_never_asks_the_network_whether_a_secret_lives(tmp_path, monkeypatch):
    token = "-".join(["xoxb", "1" * 12, "abcdefghijklmnopqrstuvwx"])
    (tmp_path / "a.py").write_text(f'TOKEN = "{token}"\n', encoding="utf-8")
    (tmp_path / "trap").mkdir()
    marker = tmp_path / "asked"
    (tmp_path / "trap/sitecustomize.py").write_text(TRAP.format(marker=str(marker)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "trap"))
    scan = DetectSecrets().scan(tmp_path, ["a.py"], ROOT)
    assert "slack-token" in {finding.rule for finding in scan.findings}
    assert not marker.exists()
    run([find_tool("detect-secrets"), "scan", "a.py"], cwd=tmp_path, seconds=60)
    assert marker.exists(), "the trap must catch what the tool does by default"
