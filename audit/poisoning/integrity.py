"""POI-005: the data are, sample for sample, those that were pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from audit.examine import Examined, control_result, count
from audit.loading import Dataset, Samples
from audit.poisoning import fingerprints
from audit.poisoning.fingerprints import Fingerprints
from audit.records import Evidence, Finding, Measurement, Severity
from audit.requirements import IntegrityRequirement

if TYPE_CHECKING:
    from audit.session import AuditSession

VICTIM = 17  # the sample that the tampered copies have changed


def integrity(requirement: IntegrityRequirement, session: AuditSession) -> Examined:
    """Compare digests of splits and raw files with their pins, and name whatever differs."""
    dataset = session.dataset
    if dataset.training is None:
        return Evidence(not_run=f"dataset {dataset.name} gives no training split to compare with its pin"), None
    pins = _Pins(requirement, fingerprints.read(session.root / requirement.fingerprints))
    found = pins.findings(dataset)
    samples = len(dataset.training) + len(dataset.audit)
    evidence = Evidence(
        measurement=count(
            found, samples + len(requirement.raw_files), samples=samples, files=len(requirement.raw_files)
        ),
        findings=tuple(found),
        control=control_result("tampered copies of the data", requirement.bound, lambda: pins.tampered(dataset)),
    )
    return evidence, None


class _Pins:
    """What the policy pins."""

    def __init__(self, requirement: IntegrityRequirement, prints: Mapping[str, Fingerprints]) -> None:
        self._requirement, self._prints = requirement, prints

    def findings(self, dataset: Dataset) -> list[Finding]:
        """Return what differs, file by file and sample by sample."""
        found = list(fingerprints.compare_files(self._requirement.raw_files, dataset.files))
        for name, samples, digest in (
            ("training", dataset.training, self._requirement.training),
            ("audit", dataset.audit, self._requirement.audit),
        ):
            if samples is not None and fingerprints.digest_of(samples) != digest:
                found += self._named(name, samples)
        return found

    def _named(self, name: str, samples: Samples) -> list[Finding]:
        """Return what a wrong digest is due to; never nothing."""
        named = list(self._prints[name].differences(Fingerprints.of(samples), name))
        return named or [
            Finding(
                tool="data integrity",
                rule="digest differs",
                severity=Severity.CRITICAL,
                path=name,
                message="the digest is another one, though every fingerprint agrees: are digest and fingerprints "
                "of the same data? python -m audit pin writes both",
            )
        ]

    def tampered(self, dataset: Dataset) -> Measurement:
        """Return the findings on copies of the data that were tampered with, each in one way.

        Raises:
            ValueError: one of them was not found, or not named.
        """
        found: list[Finding] = []
        for rule, copy in _copies(dataset):
            here = self.findings(copy)
            if rule not in {finding.rule for finding in here}:
                raise ValueError(f"{rule}: the tampered copy gave {len(here)} findings, none of that kind")
            found += here
        return count(found, len(found), rules=sorted({finding.rule for finding in found}))


def _copies(dataset: Dataset) -> list[tuple[str, Dataset]]:
    """Return tampered copies of a dataset with a training split, each with the rule that must name it."""
    samples = dataset.training
    if samples is None:
        return []
    row = min(VICTIM, len(samples) - 1)
    labels, images = samples.labels.clone(), samples.images.clone()
    labels[row] = (labels[row] + 1) % dataset.classes
    pixel = images[row].flatten()[0]
    images[row].view(-1)[0] = 0.0 if float(pixel) > 0.5 else float(pixel) + 1 / 255
    rest = torch.arange(len(samples)) != row
    copies = [
        ("label changed", replace(dataset, training=Samples(samples.images, labels))),
        ("pixels changed", replace(dataset, training=Samples(images, samples.labels))),
        ("sample removed", replace(dataset, training=Samples(samples.images[rest], samples.labels[rest]))),
    ]
    names = sorted(dataset.files)
    if len(names) > 1:
        swapped = dict(dataset.files) | {names[0]: dataset.files[names[1]], names[1]: dataset.files[names[0]]}
        copies.append(("file swapped", replace(dataset, files=swapped)))
    return copies
