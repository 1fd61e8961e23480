"""SARIF: valid against the schema whatever a field holds, one run a tool, nothing hidden, silence never a clean run."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from audit.records import (
    Evidence,
    Finding,
    Gate,
    Measurement,
    Metric,
    Probe,
    Report,
    Severity,
    Status,
    Suppression,
    SuppressionKind,
    Verdict,
)
from audit.report import as_sarif

SCHEMA = json.loads((Path(__file__).parent / "data/sarif-2.1.0.schema.json").read_text(encoding="utf-8"))
MARKUP = "<img src=x onerror=alert(1)>&\"' ü 100% #1?"
FAMILIES = {
    "STAT-001": ("static", "bandit"),
    "STAT-002": ("static", "semgrep"),
    "DEP-001": ("dependency", "pip-audit"),
    "ARTF-001": ("artifact", None),
    "REG-001": ("register", None),
    "EVA-001": ("evasion", None),
}


def requirement(name):
    family, scanner = FAMILIES[name]
    metric = "robust_accuracy" if family == "evasion" else "findings"
    tool = {"scanner": {"name": scanner}} if scanner else {}
    return {"id": name, "family": family, "bound": {"metric": metric, "at_most": 0}, **tool}


def finding(path="a.py", line=3, rule="B307", message="Use of eval.", severity=Severity.HIGH, tool="bandit"):
    return Finding(tool=tool, rule=rule, severity=severity, path=path, line=line, message=message)


def verdict(name, *findings, counted=None, status=Status.MET, **evidence):
    value = float(len(findings) if counted is None else counted)
    measurement = Measurement(
        metric=Metric.FINDINGS, value=value, low=value, high=value, n=1, settings={"tool": f"{FAMILIES[name][1]} 1.2.3"}
    )
    return Verdict(
        requirement_id=name,
        status=status,
        reason="because",
        measurement=measurement,
        evidence=Evidence(measurement=measurement, findings=findings, **evidence),
    )


def not_run(name):
    return Verdict(
        requirement_id=name, status=Status.NOT_RUN, reason="no network", evidence=Evidence(not_run="no network")
    )


def log(*verdicts, policy="policies/toy.yaml"):
    """Return the log of a report with these verdicts, held against the schema."""
    report = Report(
        gate=Gate(open=True, exit_code=0, sentence="open"),
        policy={"path": policy, "requirements": [requirement(one.requirement_id) for one in verdicts]},
        target={},
        partial=False,
        verdicts=verdicts,
        exhibits=(),
        waivers=(),
        notes=(),
        stride_matrix=None,
        provenance={},
    )
    return checked(json.loads(as_sarif.render(report)))


def checked(parsed):
    jsonschema.Draft4Validator(SCHEMA).validate(parsed)
    return parsed


def runs(parsed):
    return {run["tool"]["driver"]["name"]: run for run in parsed["runs"]}


def test_schema_is_that_of_sarif_and_refuses_what_is_none():
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    good = log(verdict("STAT-001", finding()))
    for spoil in (
        lambda parsed: parsed.update(version="2.0.0"),
        lambda parsed: parsed["runs"][0].pop("tool"),
        lambda parsed: parsed["runs"][0]["results"][0].update(level="high"),
        lambda parsed: parsed["runs"][0]["results"][0].pop("message"),
        lambda parsed: parsed["runs"][0]["results"][0].update(severity="high"),
    ):
        bad = json.loads(json.dumps(good))
        spoil(bad)
        with pytest.raises(
            jsonschema.ValidationError,
            match=r"was expected|is not one of|is a required property|were unexpected|was unexpected",
        ):
            checked(bad)


def test_finding_becomes_a_result_with_rule_level_and_place():
    run = runs(log(verdict("STAT-001", finding("audit/a b.py", 7))))["bandit"]
    assert run["tool"]["driver"]["version"] == "1.2.3"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["B307"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"], result["message"]["text"]) == ("B307", "error", "Use of eval.")
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "audit/a%20b.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 7},
            }
        }
    ]
    assert result["suppressions"] == []


@pytest.mark.parametrize(
    ("severity", "level", "score"),
    [("critical", "error", "9.5"), ("high", "error", "8.0"), ("medium", "warning", "5.5"), ("low", "note", "2.0")],
)
def test_severity_gives_the_level(severity, level, score):
    run = runs(log(verdict("STAT-001", finding(severity=Severity(severity)))))["bandit"]
    assert run["results"][0]["level"] == level
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["defaultConfiguration"]["level"] == level
    assert rule["properties"]["security-severity"] == score


def test_every_tool_has_one_run_and_a_clean_one_has_no_results():
    parsed = log(
        verdict("STAT-001"),
        verdict("STAT-002", finding(tool="semgrep", rule="weak-hash")),
        verdict("ARTF-001"),
        verdict("REG-001", finding("policies/stride.yaml", None, "hole", "cell S is empty", tool="register")),
    )
    found = {name: [result["ruleId"] for result in run["results"]] for name, run in runs(parsed).items()}
    assert found == {"bandit": [], "semgrep": ["weak-hash"], "model-security-audit": ["register/hole"]}
    assert all(run["invocations"][0]["executionSuccessful"] for run in parsed["runs"])
    assert parsed["properties"]["notRun"] == []


def test_tool_that_did_not_run_has_no_run_and_is_named():
    parsed = log(verdict("STAT-001"), not_run("DEP-001"))
    assert list(runs(parsed)) == ["bandit"]
    assert parsed["properties"]["notRun"] == [
        {"requirement": "DEP-001", "tool": "pip-audit", "reason": "no network"},
    ]


def test_requirement_that_is_not_judged_by_findings_is_left_out():
    for one in (verdict("EVA-001"), not_run("EVA-001")):
        parsed = log(one)
        assert parsed["runs"] == parsed["properties"]["notRun"] == []


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        pytest.param(
            {"probes": (Probe(name="every file was read", passed=False, detail="1 of 2"),)},
            "STAT-001: every file was read: 1 of 2",
            id="a file left out",
        ),
        pytest.param({"doubt": "the tool broke"}, "STAT-001: the tool broke", id="a doubt"),
        pytest.param({"not_run": "2 skipped"}, "STAT-001: 2 skipped", id="partly run"),
        pytest.param({"counted": 250}, "STAT-001: 1 of 250 findings are listed", id="findings cut"),
    ],
)
def test_run_that_is_not_whole_says_so(evidence, words):
    run = runs(log(verdict("STAT-001", finding(), **evidence)))["bandit"]
    assert not run["invocations"][0]["executionSuccessful"]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert (note["level"], note["message"]["text"]) == ("error", words)
    assert len(run["results"]) == 1


def suppression(kind, what="B101", **changes):
    values = {"tool": "bandit", "path": "a.py", "line": 4, "reason": "a reason long enough"} | changes
    return Suppression(what=what, kind=kind, **values)


def test_what_is_suppressed_is_shown_with_kind_and_reason():
    suppressions = (
        suppression(SuppressionKind.COMMENT, "B603, B404"),
        suppression(SuppressionKind.ACCEPTANCE),
        suppression(SuppressionKind.COMMENT_WITHOUT_EFFECT, reason="none"),
        suppression(SuppressionKind.EXCLUSION, "file not scanned", path="bad.py", line=None),
    )
    run = runs(log(verdict("STAT-001", suppressions=suppressions)))["bandit"]
    shown = [(one["ruleId"], one["suppressions"][0]["kind"]) for one in run["results"]]
    assert shown == [("B603", "inSource"), ("B404", "inSource"), ("B101", "external")]
    assert {one["suppressions"][0]["justification"] for one in run["results"]} == {"a reason long enough"}
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "file not scanned: a reason long enough"
    assert note["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "bad.py"
    assert run["invocations"][0]["executionSuccessful"]


def fingerprints(*findings):
    run = runs(log(verdict("STAT-001", *findings)))["bandit"]
    return [result["partialFingerprints"]["modelSecurityAudit/v1"] for result in run["results"]]


def test_fingerprint_holds_when_lines_move_and_tells_the_rest_apart():
    assert fingerprints(finding(line=3), finding(line=9)) == fingerprints(finding(line=30), finding(line=90))
    assert len(set(fingerprints(finding(line=3), finding(line=9)))) == 2
    others = (finding("b.py"), finding(rule="B102"), finding(message="Use of exec."))
    assert len({*fingerprints(finding()), *(one for other in others for one in fingerprints(other))}) == 4


def test_finding_without_a_file_is_placed_at_the_policy():
    run = runs(log(verdict("DEP-001", finding("requests 2.19.1", None, "CVE-2018-18074", tool="pip-audit"))))[
        "pip-audit"
    ]
    (location,) = run["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "policies/toy.yaml"
    assert location["logicalLocations"] == [{"fullyQualifiedName": "requests 2.19.1"}]


def test_whatever_a_field_holds_the_log_is_valid():
    parsed = log(
        verdict(
            "STAT-001",
            finding(f"/{MARKUP}", 1, MARKUP, MARKUP),
            finding("", None, MARKUP, ""),
            suppressions=tuple(suppression(kind, MARKUP, path=MARKUP) for kind in SuppressionKind),
        ),
        verdict("ARTF-001", finding(MARKUP, None, MARKUP, MARKUP, tool=MARKUP)),
        not_run("DEP-001"),
        policy=MARKUP,
    )
    for run in parsed["runs"]:
        for result in run["results"]:
            uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            assert not uri.startswith("/")
            assert not set(uri) & set(" <>\"'?#")


def test_an_audit_writes_every_finding_though_the_report_is_cut(toy_audit):
    toy_audit.write("module.py", "\n".join(f"a{number} = eval(text)" for number in range(120)) + "\n")
    toy_audit.audit("--only", "STAT-001", "STAT-002", "STAT-003", "DEP-001", "REG-001")
    assert len(toy_audit.verdicts()["STAT-001"]["evidence"]["findings"]) == 100
    parsed = checked(json.loads((toy_audit.root / "reports/latest/audit.sarif").read_text(encoding="utf-8")))
    found = runs(parsed)
    assert {name: len(run["results"]) for name, run in found.items()} == {
        "bandit": 120,
        "semgrep": 120,
        "detect-secrets": 0,
        "model-security-audit": len(toy_audit.verdicts()["REG-001"]["evidence"]["findings"]),
    }
    assert found["bandit"]["invocations"][0]["executionSuccessful"]
    read = found["bandit"]["properties"]["STAT-001"]
    assert read["files_tracked"] == 1
    assert read["files_read"] > 1, "the toy networks' own code is read, though no git tracks it here"
    assert [one["tool"] for one in parsed["properties"]["notRun"]] == ["pip-audit"]
    assert '<td class="id">STAT-003</td><td>detect-secrets 1' in (
        page := (toy_audit.root / "reports/latest/report.html").read_text(encoding="utf-8")
    )
    assert "<td>text</td>" in page
