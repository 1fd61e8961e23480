"""Probes of what a network has memorised: copies of judged images in it, and answers that hold for those images only.

That a network answers for the judged images from memory cannot be excluded; this makes it expensive. The first probe
looks into the network. The others ask it: a network that has learned what the images show is right on images moved by
a hair, and is not better on the images it is judged on than on those it was trained with. What honest networks lose is
measured on a small one, fitted on images that are not judged, where a network loses more than a margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audit.errors import TargetError
from audit.loading import Samples
from audit.memorised.changes import changed
from audit.memorised.copies import MOST_COMPARED, MOST_PRINTED, Copies, find, most_compared
from audit.metrics import fisher, mcnemar
from audit.records import Probe
from audit.requirements import BuiltinControl
from audit.session import AuditSession
from audit.target import TorchTarget

SIGNIFICANT = 0.001
ASKED = 500  # images that a network is asked about
FEW, SHARE = 5, 0.01  # copies that chance explains: so many, and this share of the images compared
SHARE_OF_LIKE = (
    0.03  # and this share of the rows that are like some image; stored training images were seen to have 0.017
)
CHANGE_MARGIN = 0.10  # points that a network may lose by small changes beyond what an honest one loses
TRAINING_MARGIN = 0.02  # points by which it may be better on judged images than in training, beyond an honest one
COPIES, CHANGES, TRAINING = "no copies of judged images", "right after small changes", "as right on training images"


@dataclass(frozen=True, slots=True)
class _Loss:
    """How much less often a network is right in a second condition, how probable that is by chance, and the figures."""

    points: float
    p: float
    figures: str

    @property
    def significant(self) -> bool:
        return self.p <= SIGNIFICANT


def memorised(target: TorchTarget, session: AuditSession) -> tuple[Probe, ...]:
    """Return whether a target may have memorised what it is judged on; looked at once a run."""
    if target.name not in session.memorised:
        training = session.dataset.training
        probes = [_probe(COPIES, lambda: _copies(target, session)), _probe(CHANGES, lambda: _changes(target, session))]
        if training is not None:
            probes.append(_probe(TRAINING, lambda: _training(target, session, training)))
        session.memorised[target.name] = tuple(probes)
    return session.memorised[target.name]


def _probe(name: str, look: Callable[[], tuple[bool, str]]) -> Probe:
    """Return what a look comes to; one that breaks is a doubt, and costs no measurement."""
    try:
        passed, detail = look()
    except Exception as error:  # foreign code and foreign objects: whatever they raise, nothing was seen
        passed, detail = False, f"{type(error).__name__}: {error}"
    return Probe(name=name, passed=passed, detail=detail)


def _copies(target: TorchTarget, session: AuditSession) -> tuple[bool, str]:
    images = _judged_first(session, MOST_PRINTED, None).images
    return weighed(find(target.tensors(), images), min(len(images), most_compared(images)))


def weighed(copies: Copies, images: int) -> tuple[bool, str]:
    """Return whether so few copies were found that chance explains them, and what was found, in words."""
    looked = f"{copies.rows:,} rows in {copies.as_images:,} of {copies.tensors:,} tensors could be images"
    looked += f"; of {copies.correlated:,} compared pixel by pixel {copies.like_images:,} are like some judged image"
    if len(copies.found) < max(FEW, SHARE * images, SHARE_OF_LIKE * copies.like_images):
        return True, f"{looked}, {len(copies.found)} like one and no other"
    worst = sorted(copies.of, key=lambda name: -len(copies.of[name]))[:3]
    where = ", ".join(f"{name} has {len(copies.of[name]):,}" for name in worst)
    return False, (
        f"{looked}, and {len(copies.found):,} judged images are among them: {where}; a network that holds the images "
        "it is judged on can look their labels up, and its figures say nothing about others"
    )


def _changes(target: TorchTarget, session: AuditSession) -> tuple[bool, str]:
    few = _judged_first(session, MOST_COMPARED, ASKED)

    def lost(one: TorchTarget) -> _Loss:
        before = _right(session.laboratory.clean_logits(one, few), few)
        after = _right(one.fresh_logits(changed(few.images, one.bounds))[0], few)
        p = mcnemar(int((before & ~after).sum()), int((after & ~before).sum()))
        figures = (
            f"{before.mean():.4f} right, {after.mean():.4f} when shifted by a 28th or zoomed by a 20th, n={len(few)}"
        )
        return _Loss(float(before.mean() - after.mean()), p, figures)

    return _beyond_honest(target, session, lost, CHANGE_MARGIN, "it knows these images, not what they show")


def _training(target: TorchTarget, session: AuditSession, training: Samples) -> tuple[bool, str]:
    few = _judged_first(session, MOST_COMPARED, ASKED)
    others = training.subset(len(few), session.order.seed)

    def lost(one: TorchTarget) -> _Loss:
        judged = _right(session.laboratory.clean_logits(one, few), few)
        trained = _right(one.fresh_logits(others.images)[0], others)
        p = fisher(int(judged.sum()), len(judged), int(trained.sum()), len(trained))
        figures = (
            f"{judged.mean():.4f} of {len(judged)} judged images right, {trained.mean():.4f} of {len(trained)} others"
        )
        return _Loss(float(judged.mean() - trained.mean()), p, figures)

    return _beyond_honest(target, session, lost, TRAINING_MARGIN, "it knows the judged images best, and by heart")


def _judged_first(session: AuditSession, pixels: int, count: int | None) -> Samples:
    """Return audit images in the order in which they are judged, at most so many, and so many pixels together."""
    audit = session.dataset.audit
    most = max(1, pixels // audit.images[0].numel())
    return audit.subset(most if count is None else min(most, count), session.order.seed)


def _beyond_honest(
    target: TorchTarget, session: AuditSession, measure: Callable[[TorchTarget], _Loss], margin: float, meaning: str
) -> tuple[bool, str]:
    """Hold a network's loss against a margin and, where it is beyond that, against an honest network's loss."""
    loss = measure(target)
    if loss.points <= margin or not loss.significant:
        return True, loss.figures
    try:
        honest = measure(session.control_target(BuiltinControl(builtin="undefended")))
    except TargetError as error:
        return False, f"{loss.figures}, p={loss.p:.2g}; what an honest network loses is not known: {error}"
    passed = loss.points <= max(0.0, honest.points) + margin
    compared = f"{loss.figures}, p={loss.p:.2g}; a small honest network: {honest.figures}"
    return passed, compared if passed else f"{compared}; {meaning}"


def _right(logits: Tensor, samples: Samples) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (logits.argmax(1) == samples.labels).numpy()
    return found
