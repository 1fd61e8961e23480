"""What an accuracy hides: the class that fares worst, and what the same answer to every image would come to. Pure.

Each class has an interval of its own. The least of their lower ends holds without a correction, for the class that
really is the worst exceeds it no more often than any one class its own; their upper ends each pay for all classes
(Bonferroni), for the least of many falls short more often than one. Both hold too where a search stopped as soon as it
decided, by anytime-valid intervals: the images of a class are independent trials of that class's share, and such an
interval holds at every number of them at once, whichever number the other classes left it at.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit import outcome
from audit.judge import compare, worse_end
from audit.metrics import proportion_interval
from audit.outcome import Outcome
from audit.records import Bound, Measurement, Metric, Status
from audit.sequential import EXACT, interval, would_decide

NAMED = 3  # classes that a sentence names
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Class:
    """One class: how many of its images are right, and between what and what its share lies."""

    label: int
    right: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Return the share of its images that are right."""
        return self.right / self.n


@dataclass(frozen=True, slots=True)
class WorstClass:
    """The class with the least share: ``right`` of ``n``, and its interval, for whichever class really is the worst.

    ``without_images`` names the classes that nothing is known of.
    """

    label: int
    value: float
    low: float
    high: float
    right: int
    n: int
    without_images: tuple[int, ...]

    def tables(self) -> dict[str, Any]:
        """Return it as it stands beside an accuracy in the evidence of a verdict."""
        return {"worst_class": asdict(self) | {"without_images": list(self.without_images)}}


def clean_accuracy(shown: Outcome, bound: Bound, classes: int) -> tuple[Measurement, WorstClass]:
    """Return clean accuracy, over all images or on the worst class as the bound says; and that class."""
    right = shown.after == shown.labels
    whole, worst = outcome.accuracy(shown, bound), worst_class(shown.labels, right, classes, bound, EXACT)
    if bound.metric is not Metric.WORST_CLASS_ACCURACY:
        return whole, worst
    judged = {"metric": bound.metric, "value": worst.value, "low": worst.low, "high": worst.high}
    judged |= {"interval": f"{EXACT} for each class, the upper end for all {classes} (Bonferroni)"}
    found = whole.model_copy(update={**judged, "would_decide": None})
    if compare(bound, found) is Status.INCONCLUSIVE:
        remedy = _remedy(_each(shown.labels, right, classes, bound.confidence, EXACT), bound)
        found = found.model_copy(update={"remedy": remedy})
    return found, worst


def worst_class(labels: Labels, right: NDArray[np.bool_], classes: int, bound: Bound, method: str) -> WorstClass:
    """Return the class that fares worst.

    Args:
        labels: true classes (n,), of at least one sample.
        right: which samples count as right (n,).
        classes: of the target.
        bound: gives the confidence, at which each end holds.
        method: of the intervals, by how often one looked.
    """
    each = _each(labels, right, classes, bound.confidence, method)
    upper = _each(labels, right, classes, 1 - (1 - bound.confidence) / classes, method)
    worst = min((one for one in each if one.n), key=lambda one: (one.share, one.n))
    return WorstClass(
        label=worst.label,
        value=worst.share,
        low=min(one.low for one in each),
        high=min(one.high for one in upper),
        right=worst.right,
        n=worst.n,
        without_images=tuple(one.label for one in each if not one.n),
    )


def commonest(labels: Labels) -> int:
    """Return the class with most images."""
    return int(np.bincount(labels).argmax())


def no_better_than_one_answer(labels: Labels, measured: Measurement, bound: Bound) -> str | None:
    """Return the doubt about an accuracy whose floor the same answer to every image would clear; None if there is none.

    The share of the commonest class is the *no-information rate*. Where it clears the floor, the interval must lie
    above it as well: only then was the target seen to do better than to answer that class always. What another
    requirement says does not lift the doubt: a verdict holds by its own evidence.

    Source: Kuhn 2008, J. Stat. Softw. 28(5), and confusionMatrix of the R package caret, which tests against that rate.
    """
    label = commonest(labels)
    share = float((labels == label).mean())
    if measured.metric is Metric.WORST_CLASS_ACCURACY or bound.at_least is None:
        return None
    if bound.at_least > share or measured.low > share:
        return None
    return (
        f"answering class {label} whatever is shown is right on {share:.4f} of these images, which clears the bound, "
        "and the target was not seen to do better; raise the bound above that share, or judge on as many images of "
        "each class, and bound worst_class_accuracy too"
    )


def worst_share(labels: Labels, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the class with the least share of right samples, for a table; without an interval, it is not judged."""
    own = {int(label): right[labels == label] for label in np.unique(labels)}
    share, n, label = min((float(one.mean()), len(one), label) for label, one in own.items())
    return {"class": label, "accuracy": share, "n": n}


def _each(labels: Labels, right: NDArray[np.bool_], classes: int, confidence: float, method: str) -> list[_Class]:
    found = []
    for label in range(classes):
        own = right[labels == label]
        ends = interval(int(own.sum()), len(own), confidence, method) if len(own) else (0.0, 1.0)
        found.append(_Class(label, int(own.sum()), len(own), *ends))
    return found


def _remedy(each: list[_Class], bound: Bound) -> str:
    """Return in words what would decide: images of classes with too few of them, or of the class with the least end."""
    needed = _flawless(bound)
    if needed is None:
        return "no number of images would clear it"
    few = [f"class {one.label} has {one.n}" for one in each if one.n < needed]
    if few:
        rest = f", and {len(few) - NAMED} more" if len(few) > NAMED else ""
        return f"{', '.join(few[:NAMED])}{rest}: {needed:,} images of a class, all of them right, would clear the bound"
    worst = min(each, key=lambda one: worse_end(bound, one.low, one.high))
    enough = would_decide(bound, worst.share, EXACT)
    if enough is None:
        return "more samples would hardly decide"
    return f"about {enough:,} images of class {worst.label}, which has {worst.n:,}, would probably decide"


def _flawless(bound: Bound) -> int | None:
    """Return the least number of images that clear a floor if all of them are right; None if none does.

    Source: Clopper & Pearson 1934; with n of n right the lower end is the n-th root of half the error.
    """
    if bound.at_least is None or bound.at_least <= 0:
        return 1
    if bound.at_least >= 1:
        return None
    n = max(1, math.floor(math.log((1 - bound.confidence) / 2) / math.log(bound.at_least)))
    while proportion_interval(n, n, bound.confidence)[0] < bound.at_least:
        n += 1
    return n
