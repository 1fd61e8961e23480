"""pip-audit over the running environment, read through its JSON.

Neither its exit code nor its last line can be trusted: out of reach of its service it says "No known vulnerabilities
found" and exits 0, every package skipped; and exit 1 means vulnerable or broken. Only what it names as audited counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

from packaging.utils import canonicalize_name

from audit.errors import ScannerFailed, ScannerMissing
from audit.process import run
from audit.records import Finding, Severity
from audit.scanners.interface import DependencyScan, DependencyScanner, Skipped

SECONDS = 240.0
COMMAND = (sys.executable, "-m", "pip_audit")  # not the one on PATH, which may look after another environment
_OPTIONS = ("--format", "json", "--progress-spinner", "off", "--timeout", "15")


class PipAudit(DependencyScanner):
    """pip-audit with its default service."""

    name: Literal["pip-audit"] = "pip-audit"

    def scan(self, root: Path) -> DependencyScan:
        """Run pip-audit on the environment that this process runs in; what it does not mention counts as skipped."""
        done = run([*COMMAND, *_OPTIONS], cwd=root, seconds=SECONDS)
        if "No module named pip_audit" in done.stderr:
            raise ScannerMissing("pip-audit: expected in this environment, not found; install the locked requirements")
        if not done.stdout.strip():
            raise ScannerMissing(f"pip-audit: its advisory service gave no answer ({done.tail})")
        scan = self.parse(done.stdout)
        return scan.model_copy(update={"skipped": (*scan.skipped, *_unmentioned(scan))})

    def parse(self, text: str) -> DependencyScan:
        """Read ``pip-audit --format json``."""
        try:
            packages = json.loads(text)["dependencies"]
            audited = [package for package in packages if "skip_reason" not in package]
            return DependencyScan(
                tool=self.name,
                audited=tuple(f"{package['name']} {package['version']}" for package in audited),
                skipped=tuple(
                    Skipped(package=package["name"], version=package.get("version"), reason=package["skip_reason"])
                    for package in packages
                    if "skip_reason" in package
                ),
                findings=tuple(finding for package in audited for finding in _findings(package)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ScannerFailed(f"pip-audit: expected its JSON report, got {text[:80]!r} ({error!r})") from error


def _unmentioned(scan: DependencyScan) -> Iterator[Skipped]:
    mentioned = {one.partition(" ")[0] for one in scan.audited} | {one.package for one in scan.skipped}
    known = {canonicalize_name(name) for name in mentioned}
    for distribution in distributions():
        if canonicalize_name(distribution.name) not in known:
            reason = "installed, but not in pip-audit's report"
            yield Skipped(package=distribution.name, version=distribution.version, reason=reason)


def _findings(package: dict[str, object]) -> list[Finding]:
    where = f"{package['name']} {package['version']}"
    vulnerabilities = package["vulns"]
    if not isinstance(vulnerabilities, list):
        raise TypeError("vulns is not a list")
    return [
        Finding(
            tool="pip-audit",
            rule=str(found["id"]),
            severity=Severity.HIGH,
            path=where,
            message=f"fixed in {', '.join(found.get('fix_versions', [])) or 'no release yet'}",
        )
        for found in vulnerabilities
    ]
