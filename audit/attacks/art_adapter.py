"""The one door to the Adversarial Robustness Toolbox (ART, Nicolae et al. 2018).

ART draws from NumPy's and PyTorch's global random state; the harness seeds that state around every attack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
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
        self._ask = target.logits

    def forward(self, x: Tensor) -> Tensor:
        # ART promotes some inputs to float64 under NumPy 2, and knows no device but CUDA and the CPU
        return self._ask(x.float()).to(x.device)


def classifier(target: WhiteBoxTarget, samples: Samples) -> Any:
    """Wrap a target as ART's PyTorchClassifier, with cross-entropy on logits as the loss."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=_Logits(target),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(samples.images.shape[1:]),
        nb_classes=target.classes,
        clip_values=target.bounds,
        device_type="gpu" if target.device.type == "cuda" else "cpu",
    )


def labels_only(target: Target, samples: Samples) -> Any:
    """Wrap a target as an ART classifier that answers with one-hot classes and has no gradients."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def answer(x: Any) -> Any:
        classes = target.predict(torch.from_numpy(np.asarray(x, dtype=np.float32)).clamp(*target.bounds))
        return np.eye(target.classes, dtype=np.float32)[classes.numpy()]

    return BlackBoxClassifierNeuralNetwork(
        answer,
        input_shape=tuple(samples.images.shape[1:]),
        nb_classes=target.classes,
        clip_values=target.bounds,
        channels_first=True,
    )


def generate(attack: Any, samples: Samples, steps: int = 1, **more: Any) -> Moved:
    """Run an ART attack with the true labels: without them ART attacks the model's own predictions instead.

    ART does not tell when it found an image, so every sample is said to have taken ``steps``.
    """
    spent = torch.full_like(samples.labels, steps)
    if not len(samples):
        return Moved(samples.images.clone(), spent)
    moved = attack.generate(x=samples.images.numpy(), y=samples.labels.numpy(), **more)
    return Moved(torch.from_numpy(np.asarray(moved, dtype=np.float32)), spent)
