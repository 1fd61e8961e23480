"""The one door to the Adversarial Robustness Toolbox (ART, Nicolae et al. 2018).

ART draws from NumPy's and PyTorch's global random state. Here that state is seeded from our generator and restored
afterwards, so that an attack is reproducible and leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from audit.loading import Samples
    from audit.target import WhiteBoxTarget

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


def generate(attack: Any, samples: Samples, generator: torch.Generator) -> Tensor:
    """Run an ART attack with the true labels: without them ART attacks the model's own predictions instead."""
    if not len(samples):
        return samples.images.clone()
    with _seeded(generator):
        moved = attack.generate(x=samples.images.numpy(), y=samples.labels.numpy())
    return torch.from_numpy(np.asarray(moved, dtype=np.float32))


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    before = np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
