"""(Requirement, session) -> Evidence, one function a family: measures the target, and the control beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from audit import by_class
from audit.errors import IntegrityError, ScannerFailed, ScannerMissing, TargetError
from audit.judge import compare, describe
from audit.memorised.examine import memorised
from audit.outcome import Outcome
from audit.records import Bound, ControlResult, Evidence, Finding, Measurement, Metric, Probe, Status
from audit.requirements import (
    BackdooredControl,
    BaseRequirement,
    BuiltinControl,
    PerformanceRequirement,
    StaticRequirement,
    TargetControl,
)
from audit.scanners.interface import CodeScanner, Scan
from audit.scope import Scope, scope_of
from audit.session import AuditSession
from audit.trial import Shown

Examination = TypeVar("Examination", bound=BaseRequirement)
Examined = tuple[Evidence, Outcome | None]


def refusals_are_doubts(
    examine: Callable[[Examination, AuditSession], Examined],
) -> Callable[[Examination, AuditSession], Examined]:
    """Turn a target that is refused into evidence that says so: it was not measured, and that is no pass."""

    @wraps(examine)
    def examined(requirement: Examination, session: AuditSession) -> Examined:
        try:
            return examine(requirement, session)
        except (TargetError, IntegrityError) as error:
            return Evidence(doubt=f"the target was refused: {error}"), None

    return examined


@refusals_are_doubts
def performance(requirement: PerformanceRequirement, session: AuditSession) -> Examined:
    """Measure clean accuracy, over all images or on the class that fares worst."""
    laboratory, bound = session.laboratory, requirement.bound
    target, control = session.target(), requirement.control
    shown = laboratory.clean(target, session.samples(requirement.samples))
    session.shown.append(Shown(f"{requirement.id} clean", session.target_name, shown))

    def measure_control() -> Measurement:
        bad = laboratory.clean(session.control_target(control), session.samples(control.samples))
        session.shown.append(Shown(f"{requirement.id} control, clean", control_name(control), bad, on_target=False))
        return by_class.clean_accuracy(bad, bound, target.classes)[0]

    measured, worst = by_class.clean_accuracy(shown, bound, target.classes)
    evidence = Evidence(
        measurement=session.copies.named_in(measured),
        probes=memorised(target, session),
        control=control_result(control_name(control), bound, measure_control),
        doubt=by_class.no_better_than_one_answer(shown.labels, measured, bound),
        tables=worst.tables(),
    )
    return evidence, shown


def static(requirement: StaticRequirement, session: AuditSession) -> Evidence:
    """Scan every file of the scanner's kind that is tracked or run with the model, but for what the policy excludes."""
    scanner = requirement.scanner
    try:
        scope = scope_of(scanner, session)
        if not scope.files:
            return _nothing_to_scan(scope, scanner.reads)
        scan = scanner.scan(session.root, scope.files, session.root)
    except ScannerMissing as error:
        return Evidence(not_run=str(error))
    except ScannerFailed as error:
        return Evidence(doubt=str(error))
    return Evidence(
        measurement=count(
            scan.findings,
            max(1, len(scan.files_read)),
            tool=f"{scan.tool} {scan.version}",
            reads=scanner.reads,
            files_read=len(scan.files_read),
            files_tracked=scope.tracked,
            lines_read=scan.lines_read,
        ),
        findings=scan.findings,
        probes=(*coverage_probes(scan, scope.files), _left_unread(scope)),
        control=_plant_control(requirement, session),
        suppressions=(*scope.excluded, *scan.suppressions),
    )


def _nothing_to_scan(scope: Scope, reads: str) -> Evidence:
    if scope.unread:
        return Evidence(doubt=f"nothing was scanned, and {'; '.join(scope.unread)}")
    return Evidence(not_run=f"git tracks no {reads} file here, so there is nothing to scan")


def _left_unread(scope: Scope) -> Probe:
    return Probe(
        name="nothing was left unread",
        passed=not scope.unread,
        detail="; ".join(scope.unread) or f"{len(scope.files)} files were to be read",
    )


def coverage_probes(scan: Scan, files: Sequence[str]) -> tuple[Probe, ...]:
    """Return whether a scanner read all it was given; zero files, a syntax error or a file left out is not clean."""
    left_out = sorted(set(files) - set(scan.files_read))
    return (
        Probe(
            name="every file was read",
            passed=not left_out and bool(scan.files_read),
            detail=f"{len(scan.files_read)} of {len(files)} files read"
            + (f"; left out: {', '.join(left_out[:5])}" if left_out else ""),
        ),
        Probe(
            name="every file was understood",
            passed=not scan.errors,
            detail="; ".join(scan.errors[:3]) or "no parse errors",
        ),
    )


def _plant_control(requirement: StaticRequirement, session: AuditSession) -> ControlResult:
    def scan_plant() -> Measurement:
        with tempfile.TemporaryDirectory() as name:
            shutil.copyfile(session.root / requirement.control.plant, Path(name) / "planted.py")
            scanner: CodeScanner = requirement.scanner.model_copy(update={"accept": ()})
            found = scanner.scan(Path(name), ["planted.py"], session.root).findings
        return count(found, 1, rules=sorted({finding.rule for finding in found}))

    return control_result(f"planted {requirement.control.plant}", requirement.bound, scan_plant)


def count(found: Sequence[Finding], n: int, **settings: Any) -> Measurement:
    """Return an exact count of findings in n things looked at: an interval of width zero."""
    value = float(len(found))
    return Measurement(metric=Metric.FINDINGS, value=value, low=value, high=value, n=n, settings=settings)


def control_result(name: str, bound: Bound, check: Callable[[], Measurement]) -> ControlResult:
    """Judge a control; one that breaks is INCONCLUSIVE, and never costs the measurement beside it."""
    try:
        measurement = check()
    except Exception as error:  # whatever breaks in a control, the verdict has to be told
        detail = f"{type(error).__name__}: {error}"
        return ControlResult(name=name, status=Status.INCONCLUSIVE, detail=detail)
    rules = measurement.settings.get("rules")
    found = f": {', '.join(rules)}" if rules else ""
    stood = measurement.settings.get("right_under_noise")
    found += "" if stood is None else f"; right on {stood:.3f} under random noise of the same size"
    return ControlResult(name=name, status=compare(bound, measurement), detail=describe(bound, measurement) + found)


def control_name(control: TargetControl | BuiltinControl | BackdooredControl) -> str:
    """Return what the report calls the control."""
    return control.target if isinstance(control, TargetControl) else f"builtin {control.builtin}"
