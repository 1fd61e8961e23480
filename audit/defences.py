"""Input defences around a network, built so that an attack goes *through* them.

What is not differentiable passes its gradient straight through (backward-pass differentiable approximation), what is
random is averaged over draws (expectation over transformation). Attacking the network in front of a defence instead,
and calling the result robustness, is the mistake that this makes visible.

Source: Athalye, Carlini & Wagner 2018, arXiv:1802.00420, sections 4.1 and 4.2.
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audit.records import Record

if TYPE_CHECKING:
    from torch import Tensor, nn


class Defence(Record, ABC):
    """Base of all defences: a record of parameters that wraps networks."""

    name: str

    @property
    def draws(self) -> int:
        """Return over how many draws the answer is averaged; 1 for what is not random."""
        return 1

    @property
    def partner(self) -> str | None:
        """Return the name of the second target that the defence needs, if any."""
        return None

    @abstractmethod
    def wrap(self, network: nn.Module, bounds: tuple[float, float], partner: nn.Module | None) -> nn.Module:
        """Return the defended network: (N, C, H, W) in bounds -> logits (N, classes)."""


class Jpeg(Defence):
    """JPEG compression at a quality (Das et al. 2017, arXiv:1705.02900); gradients pass straight through."""

    name: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 75

    def wrap(self, network: nn.Module, bounds: tuple[float, float], partner: nn.Module | None) -> nn.Module:
        """Return the network behind the compression."""
        import torch

        low, high = bounds

        def compress(x: Tensor) -> Tensor:
            levels = ((x.cpu() - low) / (high - low) * 255).round().to(torch.uint8).numpy()
            kept = torch.from_numpy(np.stack([self._compressed(image) for image in levels])) if len(x) else x
            return (kept.to(x.device, x.dtype) / 255 * (high - low) + low).contiguous()

        return _behind(network, lambda x: _straight_through(x, compress))

    def _compressed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compress and decompress one (C, H, W) image; colour as such, other channels one by one."""
        if len(image) == 3:
            return np.moveaxis(self._round_trip(np.moveaxis(image, 0, -1)), -1, 0)
        return np.stack([self._round_trip(channel) for channel in image])

    def _round_trip(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="JPEG", quality=self.quality)
        return np.asarray(Image.open(buffer))


class FeatureSqueezing(Defence):
    """Fewer grey levels, ``2 ** bits`` (Xu, Evans & Qi 2018, arXiv:1704.01155); gradients pass straight through."""

    name: Literal["feature-squeezing"] = "feature-squeezing"
    bits: Annotated[int, Field(ge=1, le=8)] = 1

    def wrap(self, network: nn.Module, bounds: tuple[float, float], partner: nn.Module | None) -> nn.Module:
        """Return the network behind the rounding."""
        (low, high), steps = bounds, 2**self.bits - 1

        def squeeze(x: Tensor) -> Tensor:
            rounded: Tensor = ((x - low) / (high - low) * steps).round() / steps * (high - low) + low
            return rounded

        return _behind(network, lambda x: _straight_through(x, squeeze))


class RandomizedSmoothing(Defence):
    """Gaussian noise of a standard deviation ``sigma``, the answers averaged over ``samples`` draws.

    Source: Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918; averaging probabilities instead of counting votes keeps
    the answer differentiable (Salman et al. 2019, arXiv:1906.04584).
    """

    name: Literal["randomized-smoothing"] = "randomized-smoothing"
    sigma: Annotated[float, Field(gt=0.0)] = 0.25
    samples: Annotated[int, Field(ge=2, le=1000)] = 10

    @property
    def draws(self) -> int:
        """Return the number of draws."""
        return self.samples

    def wrap(self, network: nn.Module, bounds: tuple[float, float], partner: nn.Module | None) -> nn.Module:
        """Return the network behind the noise: one draw an image."""
        import torch

        return _behind(network, lambda x: x + self.sigma * torch.randn_like(x))


class Ensemble(Defence):
    """The mean probability of two networks, the wrapped one and the target called ``other``."""

    name: Literal["ensemble"] = "ensemble"
    other: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]

    @property
    def partner(self) -> str:
        """Return the second target."""
        return self.other

    def wrap(self, network: nn.Module, bounds: tuple[float, float], partner: nn.Module | None) -> nn.Module:
        """Return both networks as one.

        Raises:
            ValueError: there is no second network.
        """
        if partner is None:
            raise ValueError(f"ensemble: expected a second network, {self.other}, got none")
        import torch
        from torch import nn

        members = nn.ModuleList([network, partner])

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.members = members

            def forward(self, x: Tensor) -> Tensor:
                shares = torch.stack([member(x).log_softmax(1) for member in self.members])
                logits: Tensor = shares.logsumexp(0) - math.log(len(self.members))
                return logits

        return Both()


def _behind(network: nn.Module, transform: Callable[[Tensor], Tensor]) -> nn.Module:
    from torch import nn

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(transform(x))
            return logits

    return Behind()


def _straight_through(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the transformed images, with the gradient of the images themselves."""
    changed: Tensor = transform(x.detach())
    return x + (changed - x.detach())


DEFENCES: dict[str, type[Defence]] = {
    "jpeg": Jpeg,
    "feature-squeezing": FeatureSqueezing,
    "randomized-smoothing": RandomizedSmoothing,
    "ensemble": Ensemble,
}

if TYPE_CHECKING:
    AnyDefence = Defence
else:  # the table decides which names a policy may use
    AnyDefence = Annotated[reduce(or_, DEFENCES.values()), Field(discriminator="name")]
