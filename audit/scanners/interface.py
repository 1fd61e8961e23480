"""What a scanner is: a record of its settings that runs one outside tool and reports what the tool read and found.

A scanner never decides. It counts what was read, so that a tool that read nothing cannot look clean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from audit.records import Finding, Record, Suppression

Reason = Annotated[str, Field(min_length=10)]


class Exclusion(Record):
    """Tracked files that are not scanned, and why. ``path`` is a glob over repository paths."""

    path: str
    reason: Reason


class Acceptance(Record):
    """A rule that may fire in some files, and why."""

    rule: str
    path: str
    reason: Reason


class Scan(Record):
    """What a code scanner read and found. Paths are relative to the scanned root."""

    tool: str
    version: str
    files_read: tuple[str, ...]
    lines_read: int
    findings: tuple[Finding, ...]
    errors: tuple[str, ...] = ()
    suppressions: tuple[Suppression, ...] = ()


class CodeScanner(Record, ABC):
    """Base of the scanners of source files."""

    suppression_mark: ClassVar[str]
    exclude: tuple[Exclusion, ...] = ()
    accept: tuple[Acceptance, ...] = ()

    @abstractmethod
    def scan(self, root: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run the tool over files below ``root``; rule files lie below ``rules_root``.

        Raises:
            ScannerMissing: the tool is not installed.
            ScannerFailed: it broke, timed out or printed something unreadable.
        """

    def excluded(self, files: Sequence[str]) -> tuple[Suppression, ...]:
        """Return which of the files the policy excludes, each with its reason."""
        return tuple(
            Suppression(tool=type(self).__name__.lower(), what="file not scanned", path=name, reason=rule.reason)
            for name in files
            for rule in self.exclude
            if fnmatch(name, rule.path)
        )

    def accepted(self, finding: Finding) -> Suppression | None:
        """Return the acceptance that covers a finding, if any."""
        for rule in self.accept:
            if finding.rule == rule.rule and fnmatch(finding.path, rule.path):
                return Suppression(
                    tool=finding.tool, what=finding.rule, path=finding.path, line=finding.line, reason=rule.reason
                )
        return None
