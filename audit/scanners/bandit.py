"""bandit over Python source, read through its JSON: the exit code does not tell a clean file from an unreadable one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from audit.errors import ScannerFailed
from audit.process import run
from audit.records import Finding, Severity
from audit.scanners.interface import Scan
from audit.scanners.python import PythonScanner
from audit.tools import environment, printed_version, python_tool

SECONDS = 180.0


class Bandit(PythonScanner):
    """All of bandit's tests at every severity and confidence; what the policy accepts is taken out afterwards."""

    suppression_mark: ClassVar[str] = "nosec"
    name: Literal["bandit"] = "bandit"

    def read(self, folder: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run bandit on named files; it has no rule files."""
        command = [*python_tool(self.name), "-q", "--ignore-nosec", "-f", "json", "--", *files]
        done = run(command, cwd=folder, seconds=SECONDS, environment=environment(rules_root))
        try:
            answer = json.loads(done.stdout)
            return Scan(
                tool=self.name,
                files_read=tuple(_plain(name) for name in answer["metrics"] if name != "_totals"),
                lines_read=int(answer["metrics"]["_totals"]["loc"]),
                findings=tuple(_finding(result) for result in answer["results"]),
                errors=tuple(f"{_plain(error['filename'])}: {error['reason']}" for error in answer["errors"]),
                version=printed_version(self.name),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ScannerFailed(f"bandit: expected its JSON, got exit {done.code}: {done.tail}") from error


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
