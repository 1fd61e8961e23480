"""Bills of materials: complete, valid, the same twice, and free of this machine; an error is told and never silent."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from audit.dependencies import bom
from audit.dependencies.environment import installed
from audit.records import Evidence, Measurement, Metric, Status, Verdict

ROOT = Path(__file__).parents[4]
WEIGHTS = "2f" * 32
TARGET = {
    "name": "hardened",
    "factory": "model_under_test.network:build",
    "recipe": "hardened",
    "digest": "sha256:abc",
    "weights_sha256": WEIGHTS,
}


def verdict(metric=Metric.CLEAN_ACCURACY, name="PERF-001"):
    measured = Measurement(metric=metric, value=0.9894, low=0.9872, high=0.9913, n=10000)
    return Verdict(requirement_id=name, status=Status.MET, reason="", measurement=measured, evidence=Evidence())


def model_bill(*verdicts, **changes):
    return bom.model_bill({**TARGET, **changes}, "mnist", f"sha256:{'ab' * 32}", verdicts)


@pytest.fixture(scope="module")
def sbom():
    return bom.environment_bill(ROOT)


def test_sbom_lists_the_environment_and_is_valid(sbom):
    assert sbom.problem is None
    assert (sbom.document["specVersion"], sbom.document["bomFormat"]) == ("1.6", "CycloneDX")
    versions = {canonicalize_name(one["name"]): one["version"] for one in sbom.document["components"]}
    assert versions == {one.name: one.version for one in installed()}
    (torch,) = (one for one in sbom.shown["components"] if one["name"] == "torch")
    assert torch["version"] == versions["torch"]
    assert sum(bool(one["licences"]) for one in sbom.shown["components"]) > 100


def test_sbom_is_the_same_twice_and_names_nothing_of_this_machine(sbom, tmp_path):
    for folder, bill in (("first", sbom), ("second", bom.environment_bill(ROOT))):
        bill.write(tmp_path / folder)
    first, second = ((tmp_path / name / bom.SBOM).read_text(encoding="utf-8") for name in ("first", "second"))
    assert first == second
    assert "file:" not in first
    for place in (str(ROOT), sys.prefix, str(Path.home()) + "/"):
        assert place not in first
    assert "serialNumber" not in json.loads(first)
    assert "timestamp" not in json.loads(first)["metadata"]


def stand_in(monkeypatch, document):
    text = document if isinstance(document, str) else json.dumps(document)
    monkeypatch.setattr(bom, "COMMAND", (sys.executable, "-c", f"print({text!r})"))
    return bom.environment_bill(ROOT)


def all_of(*components):
    """Return a bill of everything that is installed, and more."""
    listed = [{"type": "library", "name": one.name, "version": one.version} for one in installed()]
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [*listed, *components]}


def test_reference_to_a_local_file_is_left_out_and_counted(monkeypatch):
    ours = {
        "type": "library",
        "name": "ours",
        "externalReferences": [
            {"type": "distribution", "url": "file:///somewhere/ours"},
            {"type": "website", "url": "https://example.org/ours"},
        ],
    }
    bill = stand_in(monkeypatch, all_of(ours))
    assert bill.problem is None
    assert bill.shown["references_left_out"] == 1
    assert [one["url"] for one in bill.document["components"][-1]["externalReferences"]] == ["https://example.org/ours"]


@pytest.mark.parametrize(
    ("document", "problem", "made"),
    [
        pytest.param("not json", "cyclonedx-py: expected its JSON, got 'not json", False, id="no JSON"),
        pytest.param({"components": [{}]}, "cyclonedx-py: expected its JSON", False, id="no component"),
        pytest.param(
            {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}, "it leaves out", True, id="empty"
        ),
        pytest.param(
            all_of({"type": "library", "name": "x", "description": f"at {ROOT}/x"}),
            "names a path of this machine",
            False,
            id="path",
        ),
        pytest.param(
            all_of({"type": "librarian", "name": "x"}), r"does not validate.*: \$\.components", True, id="invalid"
        ),
        pytest.param(
            all_of({"type": "library", "name": "x", "externalReferences": [{"type": "website", "url": "no url"}]}),
            r"does not validate.*externalReferences\[0\]\.url",
            True,
            id="no reference",
        ),
    ],
)
def test_sbom_that_cannot_be_relied_on_is_an_error_in_the_report(monkeypatch, document, problem, made):
    bill = stand_in(monkeypatch, document)
    state = "is not to be relied on" if made else "was not made"
    assert re.match(rf"error: sbom\.cdx\.json {state}: .*{problem}", bill.note)
    assert (bill.exhibit.data["made"], len(bill.exhibit.files)) == (made, int(made))
    assert "\n" not in bill.note


def test_iri_beyond_ascii_is_valid_and_text_is_not():
    def bill(url):
        return all_of({"type": "library", "name": "x", "externalReferences": [{"type": "website", "url": url}]})

    assert bom.invalid(bill("https://example.org/größe")) is None
    assert "does not validate" in bom.invalid(bill("see our website"))


def test_attempt_that_breaks_is_an_error_in_the_report():
    bill = bom.attempt(bom.SBOM, lambda: 1 / 0)
    assert bill.note == "error: sbom.cdx.json was not made: ZeroDivisionError: division by zero"
    assert bill.exhibit.files == ()


def test_ml_bom_has_digests_and_the_metrics_of_this_run():
    bill = model_bill(verdict(), verdict(Metric.ROBUST_ACCURACY, "EVA-002"), verdict(Metric.FINDINGS, "STAT-001"))
    assert bill.note is None
    component = bill.document["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["hashes"] == [{"alg": "SHA-256", "content": WEIGHTS}]
    assert bill.document["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert component["modelCard"]["modelParameters"]["datasets"] == [{"ref": "data"}]
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [one["type"] for one in metrics] == ["clean_accuracy", "robust_accuracy"]
    assert metrics[0]["value"] == "0.989400"
    assert metrics[0]["confidenceInterval"] == {"lowerBound": "0.987200", "upperBound": "0.991300"}
    assert metrics[0]["slice"] == "PERF-001, MET, n = 10000, interval exact"


def test_ml_bom_without_weights_or_metrics_says_so():
    bill = model_bill(weights_sha256=None)
    assert bill.note is None
    assert bill.shown["weights_sha256"] == "none: this run loaded no weight file"
    said = {one["name"]: one["value"] for one in bill.document["metadata"]["component"]["properties"]}
    assert said["audit:weights-digest"] == "none: this run loaded no weight file"
    assert "quantitativeAnalysis" not in bill.document["metadata"]["component"]["modelCard"]
    assert "hashes" not in bill.document["metadata"]["component"]


def test_schema_refuses_what_it_does_not_know():
    document = json.loads(json.dumps(model_bill(verdict()).document))
    assert bom.invalid(document) is None
    document["metadata"]["component"]["modelCard"]["boast"] = "100 %"
    told = bom.invalid(document)
    assert told.startswith("it does not validate against CycloneDX 1.6: $.metadata.component")
    assert len(told) < 400
