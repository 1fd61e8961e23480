"""Bills of materials in CycloneDX 1.6: the installed environment (SBOM), and the audited model (ML-BOM).

Both are held to the schema that comes with cyclonedx-python-lib before they count as made. Neither carries a time, a
serial number or a path of this machine: the same environment and the same verdicts give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from audit.dependencies.environment import installed
from audit.errors import ScannerError
from audit.files import write_atomically
from audit.process import run
from audit.records import Exhibit, Metric, Verdict

SBOM, ML_BOM = "sbom.cdx.json", "mlbom.cdx.json"
UNWEIGHED = "none: this run loaded no weight file"
SECONDS = 120.0
COMMAND = (sys.executable, "-P", "-m", "cyclonedx_py")
_OPTIONS = ("environment", "--output-reproducible", "--no-validate", "--sv", "1.6", "--of", "JSON", "-o", "-")
_SHA256 = re.compile(r"^(?:sha256:)?([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill of materials: its file, its document if one was made, what a report shows, and what is wrong with it."""

    file: str
    document: Mapping[str, Any] | None
    shown: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def note(self) -> str | None:
        """Return the error that the report must carry, if there is one."""
        if self.problem is None:
            return None
        state = "was not made" if self.document is None else "is not to be relied on"
        return f"error: {self.file} {state}: {self.problem}"

    @property
    def exhibit(self) -> Exhibit:
        """Return what the report shows of it."""
        kind = "sbom" if self.file == SBOM else "mlbom"
        title = "Software bill of materials" if self.file == SBOM else "Machine-learning bill of materials"
        data = {**self.shown, "problem": self.problem, "made": self.document is not None}
        return Exhibit(kind=kind, title=title, data=data, files=(self.file,) if self.document is not None else ())

    def write(self, folder: Path) -> None:
        """Write the document, if there is one."""
        if self.document is not None:
            write_atomically(folder / self.file, (json.dumps(self.document, indent=2, sort_keys=True) + "\n").encode())


def attempt(file: str, make: Callable[[], Bill]) -> Bill:
    """Make a bill; one that breaks is reported like one that cannot be made, and never costs the report."""
    try:
        return make()
    except Exception as error:  # whatever breaks here, the report has to be told
        return Bill(file, None, problem=f"{type(error).__name__}: {str(error)[:200]}")


def environment_bill(root: Path) -> Bill:
    """Return the SBOM of the running environment, as cyclonedx-py makes it, without references to local files."""
    try:
        done = run([*COMMAND, *_OPTIONS], cwd=root, seconds=SECONDS)
        document = json.loads(done.stdout)
        left_out = _without_files(document["components"])
        components = sorted((_component(one) for one in document["components"]), key=lambda one: one["name"].lower())
    except ScannerError as error:
        return Bill(SBOM, None, problem=str(error))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Bill(
            SBOM, None, problem=f"cyclonedx-py: expected its JSON, got {done.stdout[:80]!r} ({error!r}): {done.tail}"
        )
    text = json.dumps(document)
    if any(place in text for place in (f"{root}/", f"{sys.prefix}/")):
        return Bill(SBOM, None, problem="it names a path of this machine")
    listed = {canonicalize_name(one["name"]) for one in components}
    forgotten = sorted({one.name for one in installed()} - listed)
    problem = f"it leaves out {', '.join(forgotten)}" if forgotten else invalid(document)
    return Bill(SBOM, document, {"components": components, "references_left_out": left_out}, problem)


def model_bill(target: Mapping[str, Any], dataset: str, data_digest: str, verdicts: Sequence[Verdict]) -> Bill:
    """Return the ML-BOM of the audited target.

    Args:
        target: what the report says of it: name, factory, recipe, digests.
        dataset: its name.
        data_digest: SHA-256 over images and labels of all splits, ``sha256:`` and 64 hexadecimal digits.
        verdicts: those of this run; every share among their measurements is a performance metric.
    """
    metrics = [
        _metric(one)
        for one in verdicts
        if one.measurement is not None and one.measurement.metric is not Metric.FINDINGS
    ]
    weights = target.get("weights_sha256")
    parameters = {
        "task": "image classification",
        "modelArchitecture": target.get("factory") or f"a defence around {target.get('wraps')}",
        "datasets": [{"ref": "data"}],
        "inputs": [{"format": "image: float32, (N, C, H, W)"}],
        "outputs": [{"format": "logits: float32, (N, classes)"}],
    }
    card: dict[str, Any] = {"modelParameters": parameters}
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": [one["bom"] for one in metrics]}
    card["considerations"] = {
        "technicalLimitations": [
            "A robust accuracy is an upper bound: no tested attack succeeded on more. Attacks outside the stated "
            "threat models were not tried."
        ]
    }
    kept = {name: target[name] for name in ("recipe", "digest", "weights", "wraps") if target.get(name)}
    kept |= {} if weights else {"weights-digest": UNWEIGHED}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": target["name"],
                **_hashes(weights),
                "modelCard": card,
                "properties": [{"name": f"audit:{name}", "value": str(value)} for name, value in kept.items()],
            }
        },
        "components": [
            {
                "type": "data",
                "bom-ref": "data",
                "name": dataset,
                "description": "images and labels of all splits; the digest is over their bytes",
                **_hashes(data_digest),
                "data": [{"type": "dataset", "name": dataset}],
                "properties": [{"name": "audit:data-digest", "value": data_digest}],
            }
        ],
        "dependencies": [{"ref": "model", "dependsOn": ["data"]}, {"ref": "data"}],
    }
    shown = {
        "name": target["name"],
        "weights_sha256": weights or UNWEIGHED,
        "architecture": parameters["modelArchitecture"],
        "dataset": dataset,
        "data_digest": data_digest,
        "metrics": [one["shown"] for one in metrics],
    }
    return Bill(ML_BOM, document, shown, invalid(document))


def invalid(document: Mapping[str, Any]) -> str | None:
    """Return where a document breaks the strict schema of CycloneDX 1.6, and how; None if it does not."""
    error = next(_validator().iter_errors(document), None)
    if error is None:
        return None
    # the whole of such an error holds the whole schema
    return f"it does not validate against CycloneDX 1.6: {error.json_path}: {error.message.splitlines()[0][:200]}"


@cache
def _validator() -> Any:
    """Return the library's own validator, with one check of formats made quick.

    A URI reference (RFC 3986) is an IRI reference (RFC 3987, section 2.2), and is told by a regular expression; what is
    none goes through the parser of IRIs, which takes a tenth of a second for each.
    """
    from cyclonedx.schema import SchemaVersion  # two seconds to import, and not for every command
    from cyclonedx.validation.json import JsonStrictValidator
    from jsonschema import Draft7Validator, FormatChecker

    formats = FormatChecker(formats=tuple(Draft7Validator.FORMAT_CHECKER.checkers))
    is_uri, is_iri = formats.checkers["uri-reference"][0], formats.checkers["iri-reference"][0]
    formats.checks("iri-reference", raises=ValueError)(lambda value: bool(is_uri(value)) or bool(is_iri(value)))
    return JsonStrictValidator(SchemaVersion.V1_6)._validator.evolve(format_checker=formats)


def _without_files(components: Iterable[dict[str, Any]]) -> int:
    """Take references to local files away, as an editable installation has one; returns how many there were."""
    count = 0
    for one in components:
        references = one.get("externalReferences", [])
        kept = [each for each in references if not each["url"].lower().startswith("file:")]
        count += len(references) - len(kept)
        if references:
            one["externalReferences"] = kept
    return count


def _component(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": one["name"], "version": one.get("version"), "licences": _licences(one.get("licenses", []))}


def _licences(licences: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return identifiers, expressions or names; a name may be a whole licence text, of which the head will do."""
    found = []
    for one in licences:
        own = one.get("license", {})
        text = str(one.get("expression") or own.get("id") or own.get("name") or "unnamed").strip()
        text = text.rpartition(" :: ")[2]  # of a trove classifier
        found.append(text.splitlines()[0][:80] if text else "unnamed")
    return list(dict.fromkeys(found))


def _metric(verdict: Verdict) -> dict[str, dict[str, Any]]:
    measured = verdict.measurement
    if measured is None:
        raise ValueError(f"{verdict.requirement_id}: expected a measurement (got none)")
    value, low, high = (f"{number:.6f}" for number in (measured.value, measured.low, measured.high))
    return {
        "bom": {
            "type": str(measured.metric),
            "value": value,
            "slice": f"{verdict.requirement_id}, {verdict.status}, n = {measured.n}, interval {measured.interval}",
            "confidenceInterval": {"lowerBound": low, "upperBound": high},
        },
        "shown": {
            "requirement": verdict.requirement_id,
            "metric": str(measured.metric),
            "value": measured.value,
            "low": measured.low,
            "high": measured.high,
            "n": measured.n,
            "status": str(verdict.status),
        },
    }


def _hashes(digest: str | None) -> dict[str, Any]:
    found = _SHA256.match(digest or "")
    return {"hashes": [{"alg": "SHA-256", "content": found[1]}]} if found else {}
