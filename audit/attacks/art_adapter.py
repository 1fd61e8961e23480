"""The one door to the Adversarial Robustness Toolbox (ART, Nicolae et al. 2018).

ART draws from NumPy's and PyTorch's global random state; the harness seeds that state around every attack. It is shown
pixels in [0, 1] whatever the target's bounds are: its DeepFool scales a step in pixels by their range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.attacks.interface import Moved

if TYPE_CHECKING:
    from audit.loading import Samples
    from audit.target import Target, WhiteBoxTarget

# Small batches stay in the cache; on a CPU large ones are about four times slower per image.
BATCH = 100
ART_NORMS = {"linf": np.inf, "l2": 2}


class _Logits(nn.Module):
    """Shows ART the target's logits and nothing else: no parameter to change, no mode to switch."""

    def __init__(self, target: WhiteBoxTarget) -> None:
        super().__init__()
        self._ask, self._bounds = target.logits, target.bounds

    def forward(self, x: Tensor) -> Tensor:
        # ART promotes some inputs to float64 under NumPy 2, and knows no device but CUDA and the CPU
        return self._ask(_pixels(x.float(), self._bounds)).to(x.device)


def classifier(target: WhiteBoxTarget, samples: Samples) -> Any:
    """Wrap a target as ART's PyTorchClassifier, with cross-entropy on logits as the loss."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=_Logits(target),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(samples.images.shape[1:]),
        nb_classes=target.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if target.device.type == "cuda" else "cpu",
    )


def labels_only(target: Target, samples: Samples) -> Any:
    """Wrap a target as an ART classifier that answers with one-hot classes and has no gradients."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def answer(x: Any) -> Any:
        classes = target.predict(_pixels(torch.from_numpy(np.asarray(x, dtype=np.float32)), target.bounds))
        return np.eye(target.classes, dtype=np.float32)[classes.numpy()]

    return BlackBoxClassifierNeuralNetwork(
        answer,
        input_shape=tuple(samples.images.shape[1:]),
        nb_classes=target.classes,
        clip_values=(0.0, 1.0),
        channels_first=True,
    )


def _shares(pixels: Tensor, bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Return pixels as the shares of their range that ART sees."""
    low, high = bounds
    shares: NDArray[np.float32] = ((pixels - low) / (high - low)).clamp(0, 1).numpy()
    return shares


def _pixels(shares: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return pixels within bounds from those that ART sees, which may lie outside [0, 1] by a rounding."""
    low, high = bounds
    return (low + (high - low) * shares).clamp(low, high)


def generate(
    attack: Any, samples: Samples, bounds: tuple[float, float], *, steps: int = 1, starts: Tensor | None = None
) -> Moved:
    """Run an ART attack with the true labels: without them ART attacks the model's own predictions instead.

    ART does not tell when it found an image, so every sample is said to have taken ``steps``.
    """
    spent = torch.full_like(samples.labels, steps)
    if not len(samples):
        return Moved(samples.images.clone(), spent)
    more = {} if starts is None else {"x_adv_init": _shares(starts, bounds)}
    moved = attack.generate(x=_shares(samples.images, bounds), y=samples.labels.numpy(), **more)
    return Moved(_pixels(torch.from_numpy(np.asarray(moved, dtype=np.float32)), bounds), spent)
