"""What a scanner is: a record of its settings that runs one outside tool and reports what the tool read and found.

A scanner never decides. It counts what was read, so that a tool that read nothing cannot look clean.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from audit.records import Finding, Record, Suppression, SuppressionKind

Reason = Annotated[str, Field(min_length=10)]


class Exclusion(Record):
    """Files that are not scanned, and why. ``path`` is a glob over paths relative to the repository."""

    path: str
    reason: Reason


class Acceptance(Record):
    """A rule that may fire in some files, and why; with ``line``, only on lines that it matches as a whole.

    ``path`` is a glob over repository paths, ``line`` a regular expression, held against the line without its margins.
    """

    rule: str
    path: str
    line: str | None = None
    reason: Reason

    @field_validator("line")
    @classmethod
    def _compiles(cls, line: str | None) -> str | None:
        try:
            re.compile(line or "")
        except re.error as error:
            raise ValueError(f"expected a regular expression (got {line!r}: {error})") from error
        return line

    def covers(self, finding: Finding, root: Path, path: str) -> bool:
        """Tell whether a finding in a file below ``root`` is accepted; ``path`` is what the policy calls the file."""
        if finding.rule != self.rule or not fnmatch(path, self.path):
            return False
        return self.line is None or re.fullmatch(self.line, _line(root, finding)) is not None


class Scan(Record):
    """What a code scanner read and found. Paths are relative to the scanned root."""

    tool: str
    version: str
    files_read: tuple[str, ...] = ()
    lines_read: int
    findings: tuple[Finding, ...] = ()
    errors: tuple[str, ...] = ()
    suppressions: tuple[Suppression, ...] = ()


class CodeScanner(Record, ABC):
    """Base of the scanners of files; ``reads`` is the kind, ``beyond_git`` tells whether untracked ones matter too."""

    reads: ClassVar[str] = "Python"
    beyond_git: ClassVar[bool] = False
    name: str
    exclude: tuple[Exclusion, ...] = ()
    accept: tuple[Acceptance, ...] = ()

    @abstractmethod
    def wants(self, path: Path) -> bool:
        """Tell whether a file is of the kind that is read."""

    @abstractmethod
    def scan(self, root: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run the tool over files below ``root``; rule files lie below ``rules_root``.

        Raises:
            ScannerMissing: the tool is not installed.
            ScannerFailed: it broke, timed out or printed something unreadable.
        """

    def excluded(self, files: Sequence[str]) -> tuple[Suppression, ...]:
        """Return which of the files the policy excludes, each with its reason."""
        kind = SuppressionKind.EXCLUSION
        return tuple(
            Suppression(tool=self.name, what="file not scanned", path=name, reason=rule.reason, kind=kind)
            for name in files
            for rule in self.exclude
            if fnmatch(name, rule.path)
        )

    def settle(
        self, findings: Iterable[Finding], root: Path, originals: Mapping[str, str] | None = None
    ) -> tuple[tuple[Finding, ...], tuple[Suppression, ...]]:
        """Part findings into those that stand, and the acceptances of the others; ``originals`` names copied files."""
        standing, accepted = [], []
        for one in findings:
            path = (originals or {}).get(one.path, one.path)
            rule = next((rule for rule in self.accept if rule.covers(one, root, path)), None)
            if rule is None:
                standing.append(one)
            else:
                accepted.append(
                    Suppression(tool=one.tool, what=one.rule, path=one.path, line=one.line, reason=rule.reason)
                )
        return tuple(standing), tuple(accepted)


def _line(root: Path, finding: Finding) -> str:
    lines = (root / finding.path).read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[finding.line - 1].strip() if finding.line and finding.line <= len(lines) else ""
