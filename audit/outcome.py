"""Per-sample results of showing images to a target, and the measurements counted from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.records import Bound, Measurement, Metric
from audit.sequential import EXACT, interval, would_decide

STANDING, WRONG_BEFORE = -1, -2  # in ``broken_by``
FIRST = ("gallery_clean", "gallery_moved", "clean_logits")  # arrays over the first samples only


@dataclass(frozen=True, slots=True)
class Outcome:
    """Per-sample results, with what is needed to draw some of them.

    ``arrays`` holds, over n samples: ``index`` (int64 places in the audit split), ``labels``, ``before`` and ``after``
    (int64 classes without and with the perturbation), ``loss`` (float32 cross-entropy after), ``distance`` (float32 in
    the norm of the budget), ``broken_by`` (int64 place in ``stages``, -1 standing, -2 wrong before) and ``steps``
    (int64 gradient steps or queries of that stage); and over the first few samples ``gallery_clean`` and
    ``gallery_moved`` (float32 images) and ``clean_logits`` (float32, without the perturbation). An attack also leaves
    ``moved``, all images as they are in the end.
    """

    arrays: dict[str, NDArray[Any]]
    description: dict[str, Any]
    from_store: bool
    stages: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """True classes (n,)."""
        return self.arrays["labels"]

    @property
    def before(self) -> NDArray[np.int64]:
        """Classes predicted without the perturbation (n,)."""
        return self.arrays["before"]

    @property
    def after(self) -> NDArray[np.int64]:
        """Classes predicted with the perturbation (n,)."""
        return self.arrays["after"]

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Which samples are right both without and with the perturbation (n,)."""
        right: NDArray[np.bool_] = (self.before == self.labels) & (self.after == self.labels)
        return right

    @property
    def broken_first(self) -> dict[str, int]:
        """Return how many samples each stage broke, among those that earlier stages left standing."""
        return {name: int((self.arrays["broken_by"] == index).sum()) for index, name in enumerate(self.stages)}


@dataclass(frozen=True, slots=True)
class Rate:
    """An attack success rate: on one network, ``hits`` of ``n`` images of other classes turned to ``target_class``."""

    network: str
    target_class: int
    hits: int
    n: int

    @property
    def value(self) -> float:
        """Return the share."""
        return self.hits / self.n

    def interval(self, confidence: float, factor: float = 1.0) -> tuple[float, float]:
        """Return the exact two-sided interval, as if there were ``factor`` times the samples."""
        return interval(round(self.hits * factor), round(self.n * factor), confidence, EXACT)


def joined(blocks: Sequence[Outcome]) -> Outcome:
    """Return the blocks of one attack as one outcome, in their order."""
    first = blocks[0]
    names = [name for name in first.arrays if name not in FIRST]
    arrays = {name: np.concatenate([block.arrays[name] for block in blocks]) for name in names}
    arrays |= {name: first.arrays[name] for name in FIRST}
    described = [block.description for block in blocks]
    description = {name: _total(name, [one[name] for one in described]) for name in described[0]}
    return Outcome(arrays, description, all(block.from_store for block in blocks), first.stages)


def accuracy(outcome: Outcome, bound: Bound, **settings: Any) -> Measurement:
    """Return clean accuracy: the share of samples classified correctly."""
    right = outcome.after == outcome.labels
    return _proportion(Metric.CLEAN_ACCURACY, int(right.sum()), outcome, bound, settings)


def robust_accuracy(
    outcome: Outcome,
    bound: Bound,
    seed: int,
    *,
    method: str = EXACT,
    limit: int | None = None,
    lost: int = 0,
    **settings: Any,
) -> Measurement:
    """Return the share of samples that are right before and after the attack; ``raw_value`` ignores before.

    Args:
        outcome: of the attack.
        bound: gives the confidence.
        seed: of the attack.
        method: of the interval.
        limit: upper limit of samples, where the search may have stopped earlier.
        lost: samples that stood under the attack and fell to a health probe within the same budget.
        settings: what the report says about the attack.
    """
    raw = float((outcome.after == outcome.labels).mean())
    standing = int(outcome.standing.sum()) - lost
    settings |= {"broken_first": outcome.broken_first} if len(outcome.stages) > 1 else {}
    settings |= {"broken_by_probes_only": lost} if lost else {}
    counted = _proportion(Metric.ROBUST_ACCURACY, standing, outcome, bound, settings, method)
    passes = {name: outcome.description[name] for name in ("gradient_passes", "forward_passes")}
    return counted.model_copy(update={"raw_value": raw, "seed": seed, "limit": limit, **passes})


def confusion_matrix(outcome: Outcome, classes: int) -> NDArray[np.int64]:
    """Return (classes, classes) counts by true class (row) and class predicted after the perturbation (column)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (outcome.labels, outcome.after), 1)
    return matrix


def rates(network: str, outcome: Outcome, classes: int) -> tuple[Rate, ...]:
    """Return the attack success rate for every class as the target, where there are images of other classes.

    An image that was taken for the target class without the trigger was not turned by it.
    """
    found = []
    for one in range(classes):
        others = outcome.labels != one
        turned = others & (outcome.after == one) & (outcome.before != one)
        if others.any():
            found.append(Rate(network, one, int(turned.sum()), int(others.sum())))
    return tuple(found)


def _proportion(
    metric: Metric, successes: int, outcome: Outcome, bound: Bound, settings: Mapping[str, Any], method: str = EXACT
) -> Measurement:
    n = len(outcome)
    low, high = interval(successes, n, bound.confidence, method)
    return Measurement(
        metric=metric,
        value=successes / n,
        low=low,
        high=high,
        n=n,
        interval=method,
        would_decide=would_decide(bound, successes / n, method),
        settings=dict(settings),
        seconds=outcome.description["attack_seconds"] + outcome.description["inference_seconds"],
        measured_at=outcome.description["measured_at"],
        from_store=outcome.from_store,
    )


def _total(name: str, values: Sequence[Any]) -> Any:
    if name == "untouched":
        return all(values)
    return min(values) if name == "measured_at" else round(sum(values), 4)
