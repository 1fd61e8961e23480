"""The real pip-audit client, read through its JSON, over the running environment or over a file of pins.

Neither its exit code nor its last line can be trusted: out of reach of its service it says "No known vulnerabilities
found" and exits 0, every package skipped; and exit 1 means vulnerable or broken. Only what it names as audited counts.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from packaging.utils import canonicalize_name, canonicalize_version

from audit.dependencies.advisories import Snapshot
from audit.dependencies.environment import installed
from audit.dependencies.loopback import ADDRESS, serving
from audit.errors import ScannerError, ScannerFailed, ScannerMissing
from audit.process import Finished, run
from audit.records import Finding, Record, Severity
from audit.tools import environment, printed_version

# not the one on PATH, which may look after another environment; -P: nor a module of that name in the working folder
COMMAND = (sys.executable, "-P", "-m", "pip_audit")
SECONDS = 240.0  # for a whole run
SOCKET_SECONDS = 15  # for one answer of the service
WAITS = (2.0, 8.0)  # seconds before the second and the third try
_OPTIONS = ("--format", "json", "--aliases", "on", "--desc", "off", "--progress-spinner", "off")
_UNREACHED = re.compile(r"ServiceError$|Timeout\b|\b(Connection|Proxy|SSL|ChunkedEncoding)Error\b|may be blocking")


class Skipped(Record):
    """A package that was not audited, and why."""

    package: str
    version: str | None
    reason: str


class Vulnerability(Record):
    """An advisory that affects an installed version. ``fixed`` holds the versions that mend it."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Return every name that the advisory goes by."""
        return frozenset((self.id, *self.aliases))

    @property
    def finding(self) -> Finding:
        """Return it as a finding."""
        others = f" (also {', '.join(self.aliases)})" if self.aliases else ""
        return Finding(
            tool="pip-audit",
            rule=self.id,
            severity=Severity.HIGH,
            path=f"{self.package} {self.version}",
            message=f"fixed in {', '.join(self.fixed) or 'no release yet'}{others}",
        )


class Pin(Record):
    """A version of a package to ask for."""

    package: str
    version: str


class DependencyScan(Record):
    """What was audited, what was skipped, and what was found."""

    audited: tuple[Pin, ...]
    skipped: tuple[Skipped, ...]
    vulnerabilities: tuple[Vulnerability, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """Who is asked: the client's options and environment, and its name for the report."""

    name: str
    options: tuple[str, ...]
    environment: dict[str, str]


@contextmanager
def service(snapshot: Snapshot | None) -> Iterator[Service]:
    """Give the advisory service: a snapshot on loopback while the span lasts, or the client's default one."""
    if snapshot is None:
        yield Service("the package index, live", ("--vulnerability-service", "pypi"), environment())
        return
    direct = {"NO_PROXY": ADDRESS, "no_proxy": ADDRESS}
    with serving(snapshot) as url, tempfile.TemporaryDirectory() as cache:
        options = ("--vulnerability-service", "osv", "--osv-url", url, "--cache-dir", cache)
        yield Service(snapshot.text, options, environment() | direct)


def audit_environment(asked: Service, root: Path) -> DependencyScan:
    """Audit the environment that this process runs in; what the client does not mention counts as skipped.

    Raises:
        ScannerMissing: the client is not installed, or its service out of reach.
        ScannerFailed: the client broke, or one of the two answered with nonsense.
    """
    scan = parse(_ask(asked, (), root))
    return scan.model_copy(update={"skipped": (*scan.skipped, *_unmentioned(scan))})


def audit_pins(asked: Service, pins: Sequence[Pin]) -> DependencyScan:
    """Audit versions that need not be installed.

    Raises:
        ScannerMissing: the client is not installed, or its service out of reach.
        ScannerFailed: the client broke, or one of the two answered with nonsense.
    """
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "pins.txt"
        file.write_text("".join(f"{pin.package}=={pin.version}\n" for pin in pins), encoding="utf-8")
        return parse(_ask(asked, ("--requirement", str(file), "--no-deps", "--disable-pip"), Path(name)))


def parse(text: str) -> DependencyScan:
    """Read ``pip-audit --format json``.

    Raises:
        ScannerFailed: the text is not such a report.
    """
    try:
        packages = json.loads(text)["dependencies"]
        audited = [package for package in packages if "skip_reason" not in package]
        return DependencyScan(
            audited=tuple(Pin(package=package["name"], version=package["version"]) for package in audited),
            skipped=tuple(
                Skipped(package=package["name"], version=package.get("version"), reason=package["skip_reason"])
                for package in packages
                if "skip_reason" in package
            ),
            vulnerabilities=tuple(_vulnerability(package, one) for package in audited for one in package["vulns"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ScannerFailed(f"pip-audit: expected its JSON report, got {text[:80]!r} ({error!r})") from error


def own_version() -> str:
    """Return the version that the client prints."""
    try:
        return printed_version("pip-audit", COMMAND)
    except ScannerError:
        return "(of unknown version)"


def _vulnerability(package: dict[str, Any], found: dict[str, Any]) -> Vulnerability:
    return Vulnerability(
        package=package["name"],
        version=package["version"],
        id=found["id"],
        aliases=tuple(sorted(found.get("aliases", ()))),
        fixed=tuple(found.get("fix_versions", ())),
    )


def _ask(asked: Service, arguments: Sequence[str], folder: Path) -> str:
    """Return the client's report; a run without one, which is a failure of the service, is repeated after a wait."""
    command = [*COMMAND, *_OPTIONS, "--timeout", str(SOCKET_SECONDS), *asked.options, *arguments]
    for wait in (*WAITS, None):
        done = run(command, cwd=folder, seconds=SECONDS, environment=asked.environment)
        if done.stdout.strip():
            return done.stdout
        if "No module named pip_audit" in done.stderr:
            raise ScannerMissing("pip-audit: expected in this environment, not found; install the locked requirements")
        if wait is not None:
            sleep(wait)
    raise _unanswered(done)


def _unanswered(done: Finished) -> ScannerMissing | ScannerFailed:
    tries = f"(tries: {len(WAITS) + 1}; the last one ended with exit {done.code}: {done.tail})"
    if _UNREACHED.search(done.tail):
        return ScannerMissing(f"pip-audit: its advisory service gave no answer {tries}")
    return ScannerFailed(f"pip-audit: it broke, or its advisory service answered with nonsense {tries}")


def _unmentioned(scan: DependencyScan) -> Iterator[Skipped]:
    """Yield what is installed and was neither audited nor skipped: of versions under one name, each hidden one too."""
    audited = {(canonicalize_name(one.package), canonicalize_version(one.version)) for one in scan.audited}
    skipped = {canonicalize_name(one.package) for one in scan.skipped}
    for one in installed():
        if one.name not in skipped and (one.name, canonicalize_version(one.version or "")) not in audited:
            reason = "installed, but not in pip-audit's report"
            yield Skipped(package=one.name, version=one.version, reason=reason)
