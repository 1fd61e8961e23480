"""detect-secrets over every tracked text file, read through its JSON and its log.

Its JSON names only the files with a finding. It passes over style sheets, lock files and lines with a ``pragma`` unless
told otherwise, and over whatever is not UTF-8 in silence. So those filters are off, the files that it opened are taken
from its log and held against those it was given, and each is decoded here too. It would ask AWS, Slack and others
whether a secret is a live one; ``--no-verify`` keeps it from that. Its log may quote what it passed over, and its JSON
has a hash of each secret: neither is ever shown.

Source: detect-secrets 1.5.0, ``core/scan.py`` and ``settings.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from audit.errors import ScannerFailed
from audit.process import run
from audit.records import Finding, Severity
from audit.scanners.interface import CodeScanner, Scan
from audit.tools import confirmed, environment, python_tool

SECONDS = 240.0
_FILTERS = "detect_secrets.filters"
_HIDING = (  # filters that leave out whole files or lines, and say so nowhere
    f"{_FILTERS}.allowlist.is_line_allowlisted",
    f"{_FILTERS}.heuristic.is_lock_file",
    f"{_FILTERS}.heuristic.is_non_text_file",
    f"{_FILTERS}.heuristic.is_swagger_file",
)
_OPENED = re.compile(r"^\[scan\]\tINFO\tChecking file: (.+)$", re.MULTILINE)


class DetectSecrets(CodeScanner):
    """All of its detectors, none of its ways to leave files or lines out; a policy may accept a rule, with a reason."""

    reads: ClassVar[str] = "text"
    name: Literal["detect-secrets"] = "detect-secrets"

    def wants(self, path: Path) -> bool:
        """Want every file: a secret may lie in any."""
        return True

    def scan(self, root: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run detect-secrets on named files; it has no rule files."""
        unreadable = tuple(_not_text(root, files))
        asked = [name for name in files if name not in unreadable]
        found, opened, version = _ask(root, asked, rules_root) if asked else ([], set(), "(not run)")
        for name in sorted({*asked} - opened):  # its worker processes forget that a filter is off
            more, also, _ = _ask(root, [name], rules_root)
            found, opened = found + more, opened | also
        standing, accepted = self.settle(found, root)
        return Scan(
            tool=self.name,
            version=version,
            files_read=tuple(sorted(opened)),
            lines_read=sum(len((root / name).read_bytes().splitlines()) for name in opened),
            findings=standing,
            errors=tuple(f"{name}: not UTF-8 text, so nothing in it was read" for name in unreadable),
            suppressions=accepted,
        )


def _ask(root: Path, files: Sequence[str], audited: Path) -> tuple[list[Finding], set[str], str]:
    """Return the findings in some files, which of them the tool says it opened, and its version.

    Without any file it would take the whole folder.
    """
    command = [*python_tool("detect-secrets"), "--verbose", "scan", "--no-verify"]
    command += [word for one in _HIDING for word in ("--disable-filter", one)]
    readable = environment(audited) | {"PYTHONUTF8": "1"}
    done = run([*command, "--", *files], cwd=root, seconds=SECONDS, environment=readable)
    try:
        answer = json.loads(done.stdout)
        results: dict[str, list[dict[str, Any]]] = answer["results"]
        found = [_finding(one) for secrets in results.values() for one in secrets]
        version = confirmed("detect-secrets", str(answer["version"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScannerFailed(f"detect-secrets: expected its JSON, got exit {done.code}") from error
    return found, {*_OPENED.findall(done.stderr)} & {*files}, version


def _finding(secret: dict[str, Any]) -> Finding:
    kind = str(secret["type"])
    return Finding(
        tool="detect-secrets",
        rule=re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-"),
        severity=Severity.HIGH,
        path=str(secret["filename"]),
        line=int(secret["line_number"]),
        message=f"{kind}: take it out and revoke it, since git keeps what is deleted",
    )


def _not_text(root: Path, files: Sequence[str]) -> Iterator[str]:
    for name in files:
        try:
            (root / name).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            yield name
