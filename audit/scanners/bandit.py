"""bandit over Python source, read through its JSON: the exit code does not tell a clean file from an unreadable one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal

from audit.errors import ScannerFailed
from audit.process import find_tool, run
from audit.records import Finding, Severity
from audit.scanners.comments import lift, suppressions
from audit.scanners.interface import CodeScanner, Scan

SECONDS = 180.0


class Bandit(CodeScanner):
    """All of bandit's tests at every severity and confidence; what the policy accepts is taken out afterwards."""

    suppression_mark: ClassVar[str] = "nosec"
    name: Literal["bandit"] = "bandit"

    def scan(self, root: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run bandit on named files; it has no rule files."""
        done = run([find_tool("bandit"), "-q", "--ignore-nosec", "-f", "json", *files], cwd=root, seconds=SECONDS)
        try:
            answer = json.loads(done.stdout)
            findings = [_finding(result) for result in answer["results"]]
            read = {_plain(name): figures for name, figures in answer["metrics"].items() if name != "_totals"}
            errors = tuple(f"{_plain(error['filename'])}: {error['reason']}" for error in answer["errors"])
            lines = int(answer["metrics"]["_totals"]["loc"])
        except (ValueError, KeyError, TypeError) as error:
            raise ScannerFailed(f"bandit: expected its JSON, got exit {done.code}: {done.tail}") from error
        listed, unreasoned = suppressions(root, files, self.suppression_mark, self.name)
        standing, accepted = self.settle(lift(findings, listed), root)
        return Scan(
            tool=self.name,
            version=version("bandit"),
            files_read=tuple(sorted(read)),
            lines_read=lines,
            findings=(*standing, *unreasoned),
            errors=errors,
            suppressions=(*listed, *accepted),
        )


def _finding(result: dict[str, object]) -> Finding:
    return Finding(
        tool="bandit",
        rule=str(result["test_id"]),
        severity=Severity(str(result["issue_severity"]).lower()),
        path=_plain(str(result["filename"])),
        line=int(str(result["line_number"])),
        message=str(result["issue_text"]),
    )


def _plain(name: str) -> str:
    return name.removeprefix("./")
