"""An outcome as another process has it: what counts, and for how many samples it is not what was said before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.outcome import STANDING, WRONG_BEFORE, Outcome

SAME = 1e-4  # by which logits may differ, as a share of the greatest: batches of another size round otherwise
DISAGREEING = "disagreeing"  # in the description of an outcome: of how many samples another process said otherwise
Logits = NDArray[np.float32]


def recounted(outcome: Outcome, clean: Logits, after: Logits, *, comparable: bool) -> Outcome:
    """Return an outcome by logits that were asked for once more, which count.

    A sample that was said to be broken and is not stands; one that was said to stand and is broken counts as broken by
    the first stage that may have done it.

    Args:
        outcome: of an attack.
        clean: (n, classes) logits of the unchanged images.
        after: (n, classes) logits of the images that the attack left.
        comparable: whether they must be what they were; not so where they are drawn at random.
    """
    labels, then = outcome.labels, outcome.arrays
    loss = cross_entropy(after, labels)
    broken_by = np.where(then["broken_by"] < 0, 0, then["broken_by"])
    broken_by = np.where(after.argmax(1) == labels, STANDING, broken_by)
    arrays = {
        **then,
        "before": clean.argmax(1),
        "after": after.argmax(1),
        "loss": loss,
        "broken_by": np.where(clean.argmax(1) != labels, WRONG_BEFORE, broken_by),
    }
    count = _apart(loss, then["loss"], after) if comparable else 0
    return replace(outcome, arrays=arrays, description=outcome.description | {DISAGREEING: count})


def disagreeing(outcome: Outcome) -> int:
    """Return of how many samples another process said otherwise; 0 where none was asked."""
    return int(outcome.description.get(DISAGREEING, 0))


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the (n,) cross-entropy of (n, classes) logits."""
    most = logits.max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = most + np.log(np.exp(logits - most[:, None]).sum(1))
        loss: NDArray[np.float32] = (total - logits[np.arange(len(labels)), labels]).astype(np.float32)
    return loss


def _apart(now: Logits, then: Logits, logits: Logits) -> int:
    """Return how many cross-entropies differ by more than rounding explains."""
    largest = np.abs(np.where(np.isfinite(logits), logits, 0.0)).max(initial=1.0)
    both = np.isfinite(now) & np.isfinite(then)
    differ = np.abs(np.where(both, now, 0.0) - np.where(both, then, 0.0)) > 2 * SAME * largest
    return int((differ | (np.isfinite(now) != np.isfinite(then))).sum())
