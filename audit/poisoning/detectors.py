"""Detectors of poisoned training images, through the features of the network that was trained on them.

The one that decides splits each class in two and asks whether the smaller part belongs elsewhere:

1. Features (the input of the last linear layer) are whitened by the covariance within classes, pooled over all of them,
   so that style varies by about one in every direction. Images that came into a class by a trigger lie far off.
2. Two Gaussians with one covariance are fitted to each class (as Tang et al. 2021, "Demon in the Variant", USENIX
   Security, section 5), from several starts; the smaller part is set aside, and the rest split again, for
   poison from several classes may lie apart.
3. What was not set aside says where each image of a part belongs: small networks fitted on it, with random marks so
   that marks do not distract them, and the nearest images in it, pixel for pixel. A part is flagged when both, for most
   of its images, name the same other class, the networks with confidence (exclusionary reclassification, Chen et al.
   2018, arXiv:1811.03728, section 4.3). A rare style makes networks unsure and lets them disagree with the neighbours;
   a stamped image of another class does neither.

Poison whose labels are right (clean-label) looks right to step 3 and is not found. Beside it stand, as they are
published and in ART, activation clustering (Chen et al. 2018) and spectral signatures (Tran et al. 2018,
arXiv:1811.00636), and duplicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.builtin import fit_undefended
from audit.errors import TargetError
from audit.loading import Samples
from audit.measure import Laboratory, Tick
from audit.randomness import seeded
from audit.target import PREDICT_BATCH, TorchTarget

PER_CLASS = 20  # images that a split needs
PER_DIMENSION = 8  # images of the smallest class for each feature direction that is kept
LEAST_VARIANCE = 1e-3  # of the greatest; directions below it are noise
STARTS = (0.01, 0.1, 0.3)  # shares of a class, farthest out, that a split starts from
ROUNDS, ITERATIONS, RIDGE = 3, 15, 0.05
JUDGES, FITTING_STEPS = 2, 600
NEIGHBOURS = 5
CONFIDENT, MAJORITY = 0.9, 0.5
QUERIES = 200  # images compared with all others at a time
EXPECTED_POISON = 0.01  # what spectral signatures are told to expect
SEED = 3
OURS = "two-component split, reclassified"
ACTIVATIONS, SPECTRAL, DUPLICATES = (
    "activation clustering (ART)",
    "spectral signatures (ART)",
    "contradicting duplicates",
)
DETECTORS = (OURS, DUPLICATES, ACTIVATIONS, SPECTRAL)


@dataclass(frozen=True, slots=True)
class Detection:
    """What each detector flags among N training images: name -> (N,) bool; the first one decides.

    ``parts`` describes what was set aside, ``labels`` (N,) are the labels as trained on.
    """

    flags: dict[str, NDArray[np.bool_]]
    parts: list[dict[str, Any]]
    labels: NDArray[np.int64]

    @property
    def flagged(self) -> Tensor:
        """Return (N,) bool, what counts as poisoned."""
        return torch.from_numpy(self.flags[OURS] | self.flags[DUPLICATES])

    def against(self, rows: Tensor, detector: str | None = None) -> dict[str, Any]:
        """Return recall and precision, the planted rows being known, of one detector or of what counts."""
        planted = torch.zeros(len(self.labels), dtype=torch.bool)
        planted[rows] = True
        flagged = self.flagged if detector is None else torch.from_numpy(self.flags[detector])
        hits = int((flagged & planted).sum())
        return {
            "detector": detector or "what counts",
            "planted": len(rows),
            "flagged": int(flagged.sum()),
            "found": hits,
            "recall": hits / len(rows) if len(rows) else None,
            "precision": hits / int(flagged.sum()) if bool(flagged.any()) else None,
            "false_share": int((flagged & ~planted).sum()) / max(1, len(planted) - len(rows)),
        }

    def shares(self) -> list[tuple[int, int, int]]:
        """Return (class, flagged images, images) for every class, by its label in training."""
        flagged = self.flagged.numpy()
        return [
            (int(one), int(flagged[self.labels == one].sum()), int((self.labels == one).sum()))
            for one in np.unique(self.labels)
        ]


def detected(laboratory: Laboratory, target: TorchTarget, samples: Samples) -> Detection:
    """Return what :func:`detect` finds, from the store where nothing has changed."""

    def compute() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        found = detect(target, samples, laboratory.tick)
        return dict(found.flags), {"parts": found.parts}

    arrays, description = laboratory.kept({"what": "detection"}, __file__, target, samples, compute)
    return Detection({name: arrays[name] for name in DETECTORS}, description["parts"], samples.labels.numpy())


def detect(target: TorchTarget, samples: Samples, tick: Tick) -> Detection:
    """Run all detectors.

    Args:
        target: trained on the samples.
        samples: its training images and labels.
        tick: shown (classes done, classes).

    Raises:
        TargetError: a class has too few images.
    """
    counts = torch.bincount(samples.labels, minlength=target.classes)
    if int(counts.min()) < PER_CLASS:
        raise TargetError(
            f"training data: expected at least {PER_CLASS} images of every class to look for poison in, "
            f"got {int(counts.min())} of class {int(counts.argmin())}"
        )
    features = features_of(target, samples.images)
    ours, parts = _split_and_reclassify(target, samples, _whitened(features, samples.labels), tick)
    with seeded(SEED):
        # "relative-size" breaks with NumPy 2 where no cluster is small
        clusters = _with_art("ActivationDefence", features, samples.labels, nb_dims=10, cluster_analysis="smaller")
        spectra = _with_art("SpectralSignatureDefense", features, samples.labels, expected_pp_poison=EXPECTED_POISON)
    flags = {OURS: ours, DUPLICATES: contradicting_duplicates(samples), ACTIVATIONS: clusters, SPECTRAL: spectra}
    return Detection({name: one.numpy() for name, one in flags.items()}, parts, samples.labels.numpy())


def features_of(target: TorchTarget, images: Tensor) -> Tensor:
    """Return the (N, D) float32 inputs of the network's last linear layer; its logits where it has none."""
    return torch.cat([target.features(batch) for batch in images.split(PREDICT_BATCH)])


def _whitened(features: Tensor, labels: Tensor) -> Tensor:
    """Return (N, D') features whose covariance within classes, pooled, is the identity."""
    classes, places = labels.unique(return_inverse=True)
    means = torch.stack([features[labels == one].mean(0) for one in classes])
    centred = (features - means[places]).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    smallest = int(torch.bincount(places).min())
    kept = int((values > LEAST_VARIANCE * values[-1]).sum().clamp(max=max(2, smallest // PER_DIMENSION)))
    whitened: Tensor = centred @ vectors[:, -kept:] / values[-kept:].sqrt()
    return whitened


def _split_and_reclassify(
    target: TorchTarget, samples: Samples, whitened: Tensor, tick: Tick
) -> tuple[Tensor, list[dict[str, Any]]]:
    rest = torch.ones(len(samples), dtype=torch.bool)
    aside: list[tuple[int, Tensor, float]] = []
    for one in range(target.classes):
        for _ in range(ROUNDS):
            rows = torch.nonzero((samples.labels == one) & rest).flatten()
            if len(rows) < PER_CLASS:
                break
            part, distance = _split(whitened[rows])
            aside.append((one, rows[part], distance))
            rest[rows[part]] = False
        tick(one + 1, target.classes)
    kept = samples.where(rest)
    judges = [
        fit_undefended(kept, target.classes, target.device, steps=FITTING_STEPS, seed=seed, marked=True).eval()
        for seed in range(JUDGES)
    ]
    flags, parts = torch.zeros(len(samples), dtype=torch.bool), []
    for one, rows, distance in aside:
        elsewhere = _belonging_elsewhere(judges, kept, samples.images[rows], one)
        flags[rows] = elsewhere > MAJORITY
        parts.append(
            {
                "class": one,
                "n": len(rows),
                "distance": distance,
                "elsewhere": elsewhere,
                "flagged": elsewhere > MAJORITY,
            }
        )
    return flags, parts


def _split(points: Tensor) -> tuple[Tensor, float]:
    """Return the smaller of two parts of (N, D) points as (N,) bool, and the distance of their means."""
    far = (points - points.median(0).values).norm(dim=1)
    found = [_two_gaussians(points, (far > far.quantile(1 - share)).double()) for share in STARTS]
    part, distance, _ = max(found, key=lambda one: one[2])
    return (~part if int(part.sum()) > len(part) / 2 else part), distance


def _two_gaussians(points: Tensor, first: Tensor) -> tuple[Tensor, float, float]:
    """Fit two Gaussians with one covariance by expectation-maximisation.

    Args:
        points: (N, D) float64.
        first: (N,) shares of the first component to start from.

    Returns:
        Which points belong to the first component, the Mahalanobis distance of the means, and by how much the
        logarithm of the covariance's determinant falls against a single Gaussian.
    """
    ridge = RIDGE * torch.eye(points.shape[1], dtype=points.dtype)
    single = torch.cov(points.T, correction=0).reshape(ridge.shape) + ridge
    for _ in range(ITERATIONS):
        weight = first.mean().clamp(1e-6, 1 - 1e-6)
        ends = [(share[:, None] * points).sum(0) / share.sum().clamp(min=1e-9) for share in (first, 1 - first)]
        offs = [share.sqrt()[:, None] * (points - end) for share, end in zip((first, 1 - first), ends, strict=True)]
        within = sum((off.T @ off for off in offs), torch.zeros_like(ridge)) / len(points) + ridge
        direction = torch.linalg.solve(within, ends[0] - ends[1])
        score = (points - (ends[0] + ends[1]) / 2) @ direction + torch.log(weight / (1 - weight))
        before, first = first, torch.sigmoid(score)
        if float((first - before).abs().max()) < 1e-4:
            break
    distance = float(((ends[0] - ends[1]) @ direction).clamp(min=0).sqrt())
    return first > 0.5, distance, float(torch.logdet(single) - torch.logdet(within))


def _belonging_elsewhere(judges: Sequence[nn.Module], kept: Samples, images: Tensor, one: int) -> float:
    """Return the share of images that networks and neighbours agree to be of the same other class than ``one``."""
    if not len(images):
        return 0.0
    device, others = next(judges[0].parameters()).device, kept.images.flatten(1)
    count = 0
    for batch in images.split(QUERIES):
        with torch.no_grad():
            best = torch.stack([judge(batch.to(device)).softmax(1).cpu() for judge in judges]).mean(0).max(1)
        judged = (best.indices != one) & (best.values > CONFIDENT)
        nearest = torch.cdist(batch[judged].flatten(1), others).topk(NEIGHBOURS, largest=False).indices
        count += int((kept.labels[nearest].mode(1).values == best.indices[judged]).sum())
    return count / len(images)


class _Features:
    """What ART's detectors ask of a classifier: the features of its last hidden layer, which are already there."""

    def __init__(self, features: NDArray[np.float32], classes: int) -> None:
        self._features, self.nb_classes, self.layer_names = features, classes, ["features", "logits"]

    def get_activations(self, *_: Any, **__: Any) -> NDArray[np.float32]:
        return self._features


def _with_art(name: str, features: Tensor, labels: Tensor, **settings: Any) -> Tensor:
    """Return what one of ART's detectors does not take for clean, (N,) bool."""
    from art.defences.detector import poison

    given, classes = features.numpy(), int(labels.max()) + 1
    made: Callable[..., Any] = getattr(poison, name)
    answers = np.eye(classes, dtype=np.float32)[labels.numpy()] if classes > 2 else labels.numpy()
    if name == "SpectralSignatureDefense":
        detector = made(_Features(given, classes), given, answers, **settings)
        _, clean = detector.detect_poison()
    else:
        detector = made(_Features(given, classes), given, answers)
        _, clean = detector.detect_poison(**settings)
    return torch.tensor(np.asarray(clean) == 0)


def contradicting_duplicates(samples: Samples) -> Tensor:
    """Return (N,) bool, images that occur again, pixel for pixel, under another label."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for row, image in enumerate(samples.images.numpy()):
        places[image.tobytes()].append(row)
    flags = torch.zeros(len(samples), dtype=torch.bool)
    for rows in _repeated(places):
        if len(samples.labels[rows].unique()) > 1:
            flags[rows] = True
    return flags


def _repeated(places: dict[bytes, list[int]]) -> Iterator[list[int]]:
    return (rows for rows in places.values() if len(rows) > 1)
