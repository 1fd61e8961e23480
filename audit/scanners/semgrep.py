"""semgrep with local rules, offline, read through its JSON.

Its own version check waits a minute and a half without a network, it skips ``tests/`` and git-ignored files by default,
and it exits 0 on findings unless told otherwise: so the check is off, the files are named one by one, and what it says
it scanned is compared with them. It passes over a syntax error in silence when no rule's words occur in the file, and
may then miss what stands below it: so Python's own parser is asked too. ``--experimental`` is its native front end,
which starts at once, where the other one imports for seconds; both are held against the fixtures beside the rules, the
other one by ``semgrep --test`` in the lint environment, this one by a unit test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from audit.errors import ScannerFailed
from audit.process import Finished, run
from audit.records import Finding, Severity
from audit.scanners.interface import Scan
from audit.scanners.python import PythonScanner
from audit.scanners.source import parsed
from audit.tools import confirmed, environment, python_tool

SECONDS = 180.0
_QUIET = {"SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
_SEVERITIES = {"ERROR": Severity.HIGH, "WARNING": Severity.MEDIUM, "INFO": Severity.LOW}
_OPTIONS = (
    *("scan", "--experimental", "--metrics", "off", "--disable-version-check", "--no-git-ignore", "--disable-nosem"),
    *("--json", "--error", "--quiet", "--max-target-bytes", "0"),
    *("--project-root", "."),  # what a rule's own paths are relative to, inside a checkout or not
)


class Semgrep(PythonScanner):
    """The rules of one file, or of every rule file of one folder."""

    suppression_mark: ClassVar[str] = "nosemgrep"
    name: Literal["semgrep"] = "semgrep"
    rules: str

    def read(self, folder: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run semgrep on named files with the rules below ``rules_root``."""
        rules = str((rules_root / self.rules).resolve())
        command = [*python_tool(self.name), *_OPTIONS, "--config", rules, "--", *files]
        done = run(command, cwd=folder, seconds=SECONDS, environment=environment(rules_root) | _QUIET)
        answer = _answer(done)
        read = tuple(str(name) for name in answer["paths"]["scanned"])
        return Scan(
            tool=self.name,
            version=confirmed(self.name, str(answer["version"])),
            files_read=read,
            lines_read=sum(len((folder / name).read_bytes().splitlines()) for name in read),
            findings=tuple(_finding(result) for result in answer["results"]),
            errors=(
                *(str(error.get("message", error))[:300] for error in answer["errors"]),
                *_syntax_errors(folder, files),
            ),
        )


def _answer(done: Finished) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
        if done.code not in (0, 1):
            raise ScannerFailed(f"semgrep: exit {done.code}: {_first_error(answer) or done.tail}")
        for part in ("results", "errors", "paths", "version"):
            answer[part]
    except (ValueError, KeyError, TypeError) as error:
        raise ScannerFailed(f"semgrep: expected its JSON, got exit {done.code}: {done.tail}") from error
    return answer


def _syntax_errors(folder: Path, files: Sequence[str]) -> Iterator[str]:
    for name in files:
        problem = parsed((folder / name).read_bytes()).problem
        if problem is not None:
            yield f"{name}: {problem}"


def _first_error(answer: dict[str, Any]) -> str:
    errors = answer.get("errors") or [{}]
    return str(errors[0].get("message", ""))[:300]


def _finding(result: dict[str, Any]) -> Finding:
    return Finding(
        tool="semgrep",
        rule=str(result["check_id"]).rpartition(".")[2],  # semgrep prefixes the folder of the rule
        severity=_SEVERITIES.get(result["extra"]["severity"], Severity.MEDIUM),
        path=str(result["path"]),
        line=int(result["start"]["line"]),
        message=" ".join(str(result["extra"]["message"]).split()),
    )
