"""The report: whatever a field holds, it is shown as text; numbers are those of the record."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from audit.gate import ExitCode
from audit.records import (
    ControlResult,
    Evidence,
    Exhibit,
    Finding,
    Gate,
    Measurement,
    Metric,
    Probe,
    Report,
    Severity,
    Status,
    Suppression,
    Verdict,
    Waiver,
)
from audit.report import as_html, as_json

MARKUP = "<img src=x onerror=alert(1)>&\"'"


def requirement(text):
    return {
        "id": "EVA-001",
        "title": text,
        "why": text,
        "severity": "high",
        "stride": ["T"],
        "references": [text],
        "family": "static",
        "threat_model": {"goal": text, "knowledge": text, "capability": text},
        "bound": {"metric": "robust_accuracy", "at_least": 0.9},
    }


def dependencies(text):
    """Return the tables of a look-up of advisories, and of a comparison with a lock."""
    return {
        "service": text,
        "audited": [text, "numpy 2.4.6"],
        "skipped": [
            {"package": text, "version": None, "reason": text, "exception": text},
            {"package": "scipy", "version": "1.17.1", "reason": text, "exception": None},
        ],
        "vulnerable": [
            {"package": text, "version": "2.19.1", "id": text, "aliases": [text], "fixed": ["2.20.0"], "waived": False},
            {"package": "urllib3", "version": "1.24.1", "id": "CVE-1", "aliases": [], "fixed": [], "waived": True},
        ],
        "waivers_out_of_use": [text],
        "lock": {
            "nearest": text, "entries": 3, "installed": 4, "python": text, "differences": {text: 2, "other.txt": 5},
            "floors": [{"package": text, "floor": "2.6", "installed": ["2.15.0"]}],
        },
    }  # fmt: skip


def bills(text):
    """Return what the report shows of the bills of materials."""
    components = [{"name": text, "version": "1.0", "licences": [text]}, {"name": "x", "version": None, "licences": []}]
    metric = {
        "requirement": "EVA-001", "metric": "robust_accuracy", "value": 0.91234, "low": 0.9, "high": 0.93, "n": 1000,
        "status": "MET",
    }  # fmt: skip
    model = {"name": text, "architecture": text, "weights_sha256": text, "dataset": text, "data_digest": text}
    sbom = {"components": components, "references_left_out": 1, "problem": text, "made": True}
    return (
        Exhibit(kind="sbom", title=text, data=sbom, files=("sbom.cdx.json",)),
        Exhibit(
            kind="mlbom",
            title=text,
            data={**model, "metrics": [metric], "problem": None, "made": True},
            files=("mlbom.cdx.json",),
        ),
    )


def stride_matrix(text):
    """Return what the report shows of a threat register."""
    threat = {
        "id": text, "description": text, "scenario": text, "attacker": text, "impact": text, "likelihood": text,
        "status": "mitigated", "state": text, "mitigation": text, "reason": text, "owner": text, "expires": text,
        "references": [text], "requirements": [{"id": text, "status": text}],
    }  # fmt: skip
    cell = {"state": text, "reason": text, "threats": [threat, threat]}
    ends = [f"{text} {number}" for number in range(4)]
    kinds = ("party", "process", "store", text)
    return {
        "categories": [["S", text]],
        "rows": [{"id": text, "title": text, "reviewed": text, "cells": {"S": cell}}],
        "unclaimed": [text],
        "diagram": {
            "boundaries": [{"id": f"{text}{column}", "title": text, "column": column} for column in range(3)],
            "nodes": [
                {"id": one, "title": f"{text} {text}", "kind": kind, "boundary": f"{text}{column}"}
                for one, kind, column in zip(ends, kinds, (0, 0, 1, 2), strict=True)
            ],
            "flows": [
                {"source": ends[a], "target": ends[b], "data": text}
                for a, b in ((0, 1), (1, 2), (2, 1), (3, 0), (0, 3))
            ],
        },
    }


def report(text):
    measurement = Measurement(
        metric=Metric.ROBUST_ACCURACY,
        value=0.91234,
        low=0.9,
        high=0.93,
        n=1000,
        settings={"tool": text, "reads": text, "files_tracked": 3, "files_read": 2, "lines_read": 10},
    )
    trigger = {
        "trigger": text, "target_class": 7, "attack_success_rate": 0.98, "compared_with": text, "yardstick": 0.0034,
        "excess": 0.9766, "low": 0.97, "high": 0.98, "accuracy": 0.1, "judged": False,
    }  # fmt: skip
    poisoning = {
        "target": text,
        "labels": text,
        "trigger": text,
        "rows": [3, 4],
        "n": 5000,
        "before": text,
        "after": text,
    }
    evidence = Evidence(
        measurement=measurement,
        findings=(Finding(tool=text, rule=text, severity=Severity.LOW, path=text, line=3, message=text),),
        probes=(Probe(name=text, passed=False, detail=text),),
        control=ControlResult(name=text, status=Status.NOT_MET, detail=text),
        suppressions=(Suppression(tool=text, what=text, path=text, line=1, reason=text),),
        tables={
            **dependencies(text),
            "triggers": [trigger],
            "poisonings": [poisoning],
        },
        files=("evidence/EVA-001.npz",),
    )
    verdict = Verdict(
        requirement_id="EVA-001",
        status=Status.INCONCLUSIVE,
        reason=text,
        margin=0.0,
        measurement=measurement,
        evidence=evidence,
    )
    scenario = {
        "knowledge": text, "crafted_on": text, "n": 10, "accuracy": 0.5, "low": 0.2, "high": 0.8,
        "attack_success_rate": None, "loss": 1.0, "inference_seconds": 0.1, "milliseconds_per_image": 10.0,
    }  # fmt: skip
    return Report(
        gate=Gate(open=False, exit_code=ExitCode.INCOMPLETE, sentence=text),
        policy={
            "path": text, "chosen": text, "dataset": text, "profile": text, "sha256": text, "data_digest": text,
            "requirements": [requirement(text)], "left_out": [text],
        },
        target={"name": text, "error": text, "digest": text, "weights_sha256": text},
        partial=True,
        verdicts=(verdict,),
        exhibits=(
            *bills(text),
            Exhibit(kind="scenario", title=text, data=scenario),
            Exhibit(kind="confusion", title=text, data={"matrix": [[3, 1], [0, 4]], "n": 8}),
            Exhibit(
                kind="curve",
                title=text,
                data={"norm": "linf", "n": 8, "lines": {"a": [{"eps": 0.0, "accuracy": 1, "low": 0.9, "high": 1}]}},
            ),
            Exhibit(
                kind="worst_case",
                title=text,
                data={"standing": 0.9, "low": 0.8, "high": 1.0, "n": 10, "broken_first": {text: 1}},
            ),
            Exhibit(
                kind="defence",
                title=text,
                data={
                    "defence": {"name": text}, "wraps": text, "attack": {"name": text}, "norm": text,
                    "eps": 0.1, "n": 10,
                    **{
                        part: {"accuracy": 0.5, "low": 0.2, "high": 0.8}
                        for part in ("clean", "worst", "apparent", "through")
                    },
                },
            ),
            Exhibit(
                kind="gallery",
                title=text,
                data={"labels": [0, 1], "before": [0, 1], "after": [1, 1]},
                files=("evidence/EVA-001.npz",),
            ),
        ),
        waivers=(Waiver(id="EVA-001", reason=f"{text} long enough", owner=text, expires="2027-01-01"),),
        notes=(text,),
        stride_matrix=stride_matrix(text),
        provenance={
            "commit": text, "dirty": True, "started": text, "finished": text, "command": text, "device": text,
            "platform": text, "python": text, "packages": {"torch": text},
        },
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "evidence").mkdir()
    images = np.zeros((2, 1, 6, 6), dtype=np.float32)
    np.savez(tmp_path / "evidence/EVA-001.npz", gallery_clean=images, gallery_moved=images + 0.5)
    return tmp_path


class Tags(HTMLParser):
    """Collects what a browser would take for elements and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_markup_in_any_field_stays_text(folder):
    page = Tags(as_html.render(report(MARKUP), folder))
    assert page.text.count("<img src=x onerror=alert(1)>") > 40
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "script" not in page.tags
    assert [value for name, value in page.attributes if name == "src" and not value.startswith("data:image/png")] == []


def test_a_defence_is_shown_by_what_stands_under_everything_that_was_tried(folder):
    shares = {"clean": 0.99, "worst": 0.44, "apparent": 0.48, "through": 0.62}
    whole = report("plain")
    (defence,) = (one for one in whole.exhibits if one.kind == "defence")
    data = defence.data | {part: {"accuracy": share, "low": 0.1, "high": 1.0} for part, share in shares.items()}
    shown = whole.model_copy(update={"exhibits": (defence.model_copy(update={"data": data}),)})
    page = as_html.render(shown, folder)
    found = re.findall(r'data-label="(Clean|Robust|Transferred|Through)" class="num">([\d.]+)', page)
    assert found == [("Clean", "99.00"), ("Robust", "44.00"), ("Transferred", "48.00"), ("Through", "62.00")]


def test_markup_in_the_register_adds_no_element_to_the_drawing(folder):
    drawn = [as_html.render(report(text), folder) for text in ("plain", MARKUP)]
    plain, marked = (Tags(page[page.index("<svg") : page.index("</svg>")]) for page in drawn)
    assert set(plain.tags) == set(marked.tags) == {
        "svg", "title", "desc", "g", "rect", "path", "text", "polyline", "polygon", "circle",
    }  # fmt: skip
    assert {name for name, _ in marked.attributes} == {name for name, _ in plain.attributes}
    assert marked.text.count("<img src=x onerror=alert(1)>") > 10


def test_drawing_says_in_words_what_it_shows(folder):
    page = as_html.render(report("plain"), folder)
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert 'role="img" aria-labelledby="dfd-title dfd-desc"' in svg
    assert "4 nodes within 3 trust boundaries, 5 flows</title>" in svg
    assert "2: plain plain to plain plain: plain." in svg


def test_register_is_told_with_states_threats_and_verdicts(folder):
    text = section(as_html.render(report("plain"), folder), "stride")
    for expected in (
        "plain reviewed plain",
        "Requirements that no threat names: plain.",
        "mitigated; owner: plain, until plain",
        "Crosses a trust boundary 1 plain plain plain plain plain no",
        "2 plain plain plain plain plain plain to plain",
    ):
        assert expected in text


def test_threat_links_to_the_verdicts_that_the_report_has_and_to_no_others(folder):
    matrix = stride_matrix("plain")
    for name in ("EVA-001", "POI-001"):
        matrix["rows"][0]["cells"]["S"]["threats"][0]["requirements"].append({"id": name, "status": "MET"})
    page = as_html.render(report("plain").model_copy(update={"stride_matrix": matrix}), folder)
    stride = page[page.index('<section id="stride">') :]
    links = [value for name, value in Tags(stride[: stride.index("</section>")]).attributes if name == "href"]
    assert "#EVA-001" in links
    assert "#POI-001" not in links
    anchors = {f"#{value}" for name, value in Tags(page).attributes if name == "id"}
    assert set(links) <= anchors


def test_limits_of_what_an_open_gate_claims_stand_beside_what_was_not_examined(folder):
    text = section(as_html.render(report("plain"), folder), "not-examined")
    assert "the chance that it opens is at most the error of that one requirement" in text
    assert "breaks none of the first 200 images is not run on the rest" in text
    assert "about 1.5 points too high" in text


def test_report_without_a_register_has_no_such_section(folder):
    page = as_html.render(report("plain").model_copy(update={"stride_matrix": None}), folder)
    assert "<svg" not in page
    assert 'id="stride"' not in page


def test_page_needs_nothing_from_elsewhere(folder):
    page = Tags(as_html.render(report("plain"), folder))
    links = [value for name, value in page.attributes if name == "href"]
    assert all(link.startswith(("#", "evidence/", "sbom.cdx.json", "mlbom.cdx.json")) for link in links)


def test_numbers_and_words_of_the_verdict_are_on_the_page(folder):
    text = Tags(as_html.render(report("plain"), folder)).text
    for expected in (
        "91.23",
        "[90.00, 93.00]",
        "1,000",
        "? INCONCLUSIVE",
        "Left out by",
        "FAILED",
        "97.66",
        "2 of 5,000 images",
    ):
        assert expected in text


def section(page, name):
    """Return the words of one section of the page, spaces made even."""
    text = page[page.index(f'<section id="{name}">') :]
    apart = re.sub(r"(</td>|</th>|<span|<p>|</summary>)", r" \1", text[: text.index("</section>")])
    return " ".join(Tags(apart).text.split())


def test_dependencies_are_told_with_how_many_of_how_many(folder):
    text = section(as_html.render(report("plain"), folder), "dependencies")
    for expected in (
        "EVA-001: 2 of 4 packages were audited, 2 skipped, 1 of those by an exception. Advisory service: plain.",
        "plain 2.19.1 plain plain 2.20.0 vulnerable",
        "urllib3 1.24.1 CVE-1 no release yet waived",
        "scipy 1.17.1 plain none",
        "Audited packages: 2 plain, numpy 2.4.6",
        "4 distributions are installed. Nearest is plain with 3 entries for Python plain on this platform: 2 diff",
        "other.txt 5",
        "plain 2.6 2.15.0",
        "✗ error plain sbom.cdx.json, CycloneDX 1.6.",
        "2 components, 1 of them without a declared licence. References to files of this machine",
        "mlbom.cdx.json, CycloneDX 1.6; ✓ validates against the strict schema.",
        "EVA-001 robust accuracy 0.9123 [0.9000, 0.9300] 1,000 ✓ MET",
    ):
        assert expected in text


def test_report_that_asked_no_advisory_service_says_that_nothing_is_known(folder):
    whole = report("plain")
    evidence = whole.verdicts[0].evidence.model_copy(update={"tables": {}})
    bare = whole.model_copy(update={"verdicts": (whole.verdicts[0].model_copy(update={"evidence": evidence}),)})
    text = section(as_html.render(bare, folder), "dependencies")
    assert "No advisory service was asked, so nothing is known about vulnerabilities in the installed packages." in text


def test_bill_that_was_not_made_has_no_link(folder):
    lost = Exhibit(kind="sbom", title="Software bill of materials", data={"problem": "no tool", "made": False})
    whole = report("plain").model_copy(update={"exhibits": (lost,)})
    page = as_html.render(whole, folder)
    assert "✗ error no tool" in section(page, "dependencies")
    assert "sbom.cdx.json" not in page


def test_pictures_are_kept_as_evidence_too(folder):
    as_html.render(report("plain"), folder)
    assert len(list((folder / "evidence").glob("*.png"))) == 3


def test_json_carries_the_same_record(tmp_path):
    original = report(MARKUP)
    as_json.write(original, tmp_path / "audit.json")
    text = (tmp_path / "audit.json").read_text(encoding="utf-8")
    assert Report.model_validate_json(text) == original
    verdict = json.loads(text)["verdicts"][0]
    assert set(verdict) >= {"requirement_id", "status", "reason", "measurement"}
    assert set(verdict["measurement"]) >= {"metric", "value", "low", "high", "n"}
    assert json.loads(text)["schema_version"] == "1.2"


@pytest.mark.parametrize("check", ["loading", "second-opinion", "signature"])
def test_model_files_are_shown_and_stay_text(folder, check):
    shown = report(MARKUP)
    policy = dict(shown.policy)
    policy["requirements"] = [{**requirement(MARKUP), "family": "artifact", "check": check}]
    tables = dict(shown.verdicts[0].evidence.tables)
    if check == "loading":
        tables["refused"] = [{"file": MARKUP, "what": MARKUP, "answer": MARKUP}]
    evidence = shown.verdicts[0].evidence.model_copy(update={"tables": tables})
    verdict = shown.verdicts[0].model_copy(update={"evidence": evidence})
    page = as_html.render(shown.model_copy(update={"policy": policy, "verdicts": (verdict,)}), folder)
    section = page[page.index('<section id="artifacts">') : page.index('<section id="findings">')]
    assert Tags(section).text.count("<img src=x onerror=alert(1)>") >= 1
    assert "img" not in Tags(section).tags
    assert ("given 1 malicious and damaged files" in section) == (check == "loading")
