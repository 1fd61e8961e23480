"""The findings of a report as SARIF 2.1.0, so that a code-scanning page shows them. Sees the Report record only.

One run a tool, and one for the checks of the audit's own. A tool that found nothing has a run without results, which
closes what was open on such a page; a tool that did not run has no run, which leaves it open, and is named in the log's
properties. What a comment or the policy accepts is a suppressed result; a file that is not scanned, a notification.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, sections 3.13 (log), 3.14 (run),
3.20 (invocation), 3.27 (result), 3.35 (suppression) and 3.49 (reporting descriptor).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from audit.files import write_atomically
from audit.records import Family, Finding, Metric, Report, Severity, Suppression, SuppressionKind, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
OURSELVES = "model-security-audit"
CHECKED_BY = {"advisories": "pip-audit", "second-opinion": "picklescan"}  # checks that another tool makes
ROOT = "SRCROOT"
LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
# what code-scanning pages sort by: the middle of each band of CVSS 3.1, section 5
SCORES = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "2.0"}
IN_FILES = (Family.STATIC, Family.REGISTER)  # whose findings name a file of the repository

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Examined:
    """A requirement that is judged by its findings, and its verdict."""

    requirement: Mapping[str, Any]
    verdict: Verdict

    @property
    def tool(self) -> str:
        scanner = self.requirement.get("scanner") or {}
        return str(scanner.get("name") or CHECKED_BY.get(str(self.requirement.get("check")), OURSELVES))

    @property
    def version(self) -> str | None:
        """Return the version that the scanner gave with its name."""
        stated = str(self.verdict.measurement.settings.get("tool", "")) if self.verdict.measurement else ""
        return stated.removeprefix(f"{self.tool} ") if stated.startswith(f"{self.tool} ") else None


def render(report: Report) -> str:
    """Return the log as indented JSON."""
    return json.dumps(_log(report), indent=2, ensure_ascii=False) + "\n"


def write(report: Report, path: Path) -> None:
    """Write the log atomically."""
    write_atomically(path, render(report).encode())


def _log(report: Report) -> Json:
    requirements = {one["id"]: one for one in report.policy["requirements"]}
    counted = [
        _Examined(requirements[verdict.requirement_id], verdict)
        for verdict in report.verdicts
        if requirements[verdict.requirement_id]["bound"]["metric"] == Metric.FINDINGS
    ]
    measured = [one for one in counted if one.verdict.measurement is not None]
    tools = dict.fromkeys(one.tool for one in measured)
    policy = str(report.policy["path"])
    not_run = [
        {"requirement": one.verdict.requirement_id, "tool": one.tool, "reason": one.verdict.reason}
        for one in counted
        if one.verdict.measurement is None
    ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [_run(tool, [one for one in counted if one.tool == tool], policy) for tool in tools],
        "properties": {
            "gate": report.gate.sentence,
            "policyChanges": report.policy_changes,
            "partial": report.partial,
            "notRun": not_run,
        },
    }


def _run(tool: str, examined: list[_Examined], policy: str) -> Json:
    results = [result for one in examined for result in _results(one, policy)]
    _fingerprint(tool, results)
    notes = [note for one in examined for note in _notifications(one)]
    versions = [one.version for one in examined if one.version]
    return {
        "tool": {
            "driver": {
                "name": tool,
                **({"version": versions[0]} if versions else {}),
                "rules": _rules(examined, results),
            }
        },
        "automationDetails": {"id": f"{OURSELVES}/{tool}/"},
        "invocations": [
            {
                "executionSuccessful": not any(note["level"] == "error" for note in notes),
                "toolExecutionNotifications": notes,
            }
        ],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "results": results,
        "properties": {
            one.verdict.requirement_id: {"status": one.verdict.status, **one.verdict.measurement.settings}
            for one in examined
            if one.verdict.measurement
        },
    }


def _results(one: _Examined, policy: str) -> Iterator[Json]:
    for finding in one.verdict.evidence.findings:
        yield {
            "ruleId": _rule_id(one, finding),
            "level": LEVELS[finding.severity],
            "message": {"text": finding.message or finding.rule},
            "locations": [_location(one, finding, policy)],
            "suppressions": [],
        }
    for left_out in one.verdict.evidence.suppressions:
        kind = {SuppressionKind.COMMENT: "inSource", SuppressionKind.ACCEPTANCE: "external"}.get(left_out.kind)
        for rule in re.split(r"[\s,]+", left_out.what) if kind else ():
            yield {
                "ruleId": rule,
                "level": "note",
                "message": {"text": f"{rule}, accepted: {left_out.reason}"},
                "locations": [_location(one, left_out, policy)],
                "suppressions": [{"kind": kind, "justification": left_out.reason}],
            }


def _rule_id(one: _Examined, finding: Finding) -> str:
    if one.tool != OURSELVES:
        return finding.rule
    return "/".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in (finding.tool, finding.rule))


def _location(one: _Examined, found: Finding | Suppression, policy: str) -> Json:
    """Return a place in a file; what is no file of the repository is named at the policy that asks about it."""
    if one.requirement["family"] not in IN_FILES:
        return {
            "physicalLocation": {"artifactLocation": _artifact(policy)},
            "logicalLocations": [{"fullyQualifiedName": found.path}],
        }
    place: Json = {"artifactLocation": _artifact(found.path)}
    if found.line:
        place["region"] = {"startLine": found.line}
    return {"physicalLocation": place}


def _artifact(path: str) -> Json:
    return {"uri": quote(path.lstrip("/")), "uriBaseId": ROOT}


def _fingerprint(tool: str, results: Iterable[Json]) -> None:
    """Give every result a fingerprint that holds when lines move: of tool, rule, file, message, and the how-manieth.

    ``primaryLocationLineHash`` is left to whoever uploads the log: it hashes the lines around, and needs the sources.
    """
    seen: Counter[str] = Counter()
    for result in sorted(results, key=_line):
        what = json.dumps([tool, result["ruleId"], _named(result), result["message"]["text"]])
        seen[what] += 1
        digest = hashlib.sha256(f"{what} {seen[what]}".encode()).hexdigest()
        result["partialFingerprints"] = {"modelSecurityAudit/v1": digest}


def _line(result: Json) -> int:
    return int(result["locations"][0]["physicalLocation"].get("region", {}).get("startLine", 0))


def _named(result: Json) -> list[Any]:
    location = result["locations"][0]
    return [location["physicalLocation"]["artifactLocation"]["uri"], location.get("logicalLocations")]


def _rules(examined: Iterable[_Examined], results: Iterable[Json]) -> list[Json]:
    """Return a descriptor for each rule that some result names; its severity is the worst it was found with."""
    order = list(Severity)
    worst: dict[str, Severity] = {}
    texts: dict[str, str] = {}
    for one in examined:
        for finding in one.verdict.evidence.findings:
            rule = _rule_id(one, finding)
            worst[rule] = max(worst.get(rule, Severity.LOW), finding.severity, key=order.index)
            texts.setdefault(rule, finding.message or rule)
    names = dict.fromkeys(result["ruleId"] for result in results)
    return [_descriptor(name, texts.get(name, name), worst.get(name, Severity.LOW)) for name in names]


def _descriptor(name: str, text: str, severity: Severity) -> Json:
    return {
        "id": name,
        "shortDescription": {"text": name},
        "fullDescription": {"text": text},
        "help": {"text": text},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {"tags": ["security"], "security-severity": SCORES[severity]},
    }


def _notifications(one: _Examined) -> Iterator[Json]:
    """Say what keeps the run from being complete (errors), and which files were left out on purpose (notes)."""
    verdict, evidence = one.verdict, one.verdict.evidence
    doubts = [f"{probe.name}: {probe.detail}" for probe in evidence.probes if not probe.passed]
    doubts += [text for text in (evidence.doubt, evidence.not_run) if text]
    if verdict.measurement is not None and verdict.measurement.value > len(evidence.findings):
        doubts.append(f"{len(evidence.findings)} of {verdict.measurement.value:g} findings are listed")
    for text in doubts:
        yield {"level": "error", "message": {"text": f"{verdict.requirement_id}: {text}"}}
    for left_out in evidence.suppressions:
        if left_out.kind is SuppressionKind.EXCLUSION:
            yield {
                "level": "note",
                "message": {"text": f"{left_out.what}: {left_out.reason}"},
                "locations": [{"physicalLocation": {"artifactLocation": _artifact(left_out.path)}}],
            }
