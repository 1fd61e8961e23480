"""Agreement: what is served is what was audited, image by image."""

from __future__ import annotations

from typing import Any

from audit.errors import TargetError
from audit.requirements import AgreementRequirement
from audit.serving import client
from audit.serving.bench import Bench, Expected, Tried, together
from audit.serving.client import Answer

THREADS = 4
NOISE = 1e-5  # what float32 and another batch size may move a probability by


def agreement(bench: Bench, requirement: AgreementRequirement) -> Tried:
    """Ask about every image, and hold class, probabilities and digest to the audited model's.

    Raises:
        TargetError: the server did not start, or had no time for a question.
    """
    tried, subject = Tried(), bench.subject
    with bench.ordinary() as server:
        answers = together(
            subject.bodies, THREADS, lambda body: server.patiently(client.request("POST", "/predict", body))
        )
    busy = sum(answer is None or answer.status in (429, 503) for answer in answers)
    if busy:
        raise TargetError(f"{busy} of {len(answers)} questions had no answer: nothing is known of those images")
    furthest = 0.0
    for index, (answer, expected) in enumerate(zip(answers, subject.expected, strict=True)):
        if answer is not None:
            furthest = max(furthest, _judge(tried, index, answer, expected, bench, requirement.decimals))
    tried.n = len(answers)
    tried.settings = {
        "images": len(answers),
        "same_class": len(answers) - tried.counts.get("another class", 0) - tried.counts.get("no class", 0),
        "furthest_probability": round(furthest, 8),
        "decimals": requirement.decimals,
    }
    return tried


def _judge(tried: Tried, index: int, answer: Answer, expected: Expected, bench: Bench, decimals: int) -> float:
    """Compare one answer; returns how far its furthest probability is off."""
    said, where = answer.json, f"image {index}"
    if answer.status != 200 or "class" not in said:
        tried.add("no class", where, f"status {answer.status}, expected the class of an image of the audit split")
        return 0.0
    if said["class"] != expected[0]:
        tried.add("another class", where, f"served {said['class']!r}, audited {expected[0]}")
    if said.get("model_digest") != f"sha256:{bench.subject.sha256}":
        tried.add("another digest", where, f"served {str(said.get('model_digest'))[:90]}, audited another")
    off = _furthest(said.get("probabilities"), expected[1])
    if off is None:
        tried.add("no probabilities", where, f"expected {len(expected[1])} numbers")
        return 0.0
    if off > 0.5 * 10**-decimals + NOISE:
        tried.add("other probabilities", where, f"{off:.6f} apart, more than rounding to {decimals} decimals explains")
    return off


def _furthest(served: Any, audited: tuple[float, ...]) -> float | None:
    """Return the largest difference of two lists of probabilities; None where one is no such list."""
    if not isinstance(served, list) or len(served) != len(audited):
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in served):
        return None
    return max(abs(float(one) - other) for one, other in zip(served, audited, strict=True))
