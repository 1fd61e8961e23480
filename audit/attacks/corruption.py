"""Natural corruptions: no adversary, only what a camera or a hand does. The worst of a few settings a sample.

Source: Engstrom et al. 2019, arXiv:1712.02779 (rotation and translation, worst of a grid); Hendrycks & Dietterich 2019,
arXiv:1903.12261 (blur and contrast).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import Knowledge, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.loading import Samples
    from audit.target import Target


class Kind(StrEnum):
    """What is done to the image, and the unit of its ``strength``."""

    ROTATION = "rotation"  # degrees, both ways
    TRANSLATION = "translation"  # pixels, in four directions
    BLUR = "blur"  # standard deviation in pixels
    CONTRAST = "contrast"  # share of the contrast taken away


class Corruption(Attack):
    """One kind of corruption at a strength. It has no eps: nothing is cut back but to the pixel box."""

    name: Literal["corruption"] = "corruption"
    knowledge: ClassVar[Knowledge] = Knowledge.BLACK_BOX_LABEL
    iterated: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    kind: Kind
    strength: Annotated[float, Field(gt=0.0)]

    def perturb(self, target: Target, samples: Samples, threat_model: ThreatModel, generator: torch.Generator) -> Moved:
        """Return, for every sample, a variant that misleads the target, else the last variant."""
        import torch

        moved, found = samples.images.clone(), torch.zeros_like(samples.labels, dtype=torch.bool)
        steps = torch.zeros_like(samples.labels)
        for step, variant in enumerate(self._variants(samples.images, target.bounds), start=1):
            moved[~found] = variant[~found]
            steps[~found] = step
            found |= target.predict(variant) != samples.labels
        return Moved(moved, steps)

    def _variants(self, images: Tensor, bounds: tuple[float, float]) -> Iterator[Tensor]:
        from torchvision.transforms.v2 import InterpolationMode, functional

        if self.kind is Kind.CONTRAST:
            variants = [images.mean((1, 2, 3), keepdim=True).lerp(images, 1 - min(self.strength, 1.0))]
        elif self.kind is Kind.BLUR:
            side = 2 * int(3 * self.strength + 0.5) + 1
            side = min(side, 2 * (min(images.shape[-2:]) // 2) - 1)
            variants = [functional.gaussian_blur(images, [side, side], [self.strength, self.strength])]
        else:
            turn = self.kind is Kind.ROTATION
            shifts: list[Any] = [(0, 0)] * 2 if turn else [(1, 0), (-1, 0), (0, 1), (0, -1)]
            variants = [
                functional.affine(
                    images,
                    angle=(self.strength if index == 0 else -self.strength) if turn else 0.0,
                    translate=[round(self.strength * along) for along in shift],
                    scale=1.0,
                    shear=[0.0, 0.0],
                    interpolation=InterpolationMode.BILINEAR,
                    fill=bounds[0],
                )
                for index, shift in enumerate(shifts)
            ]
        for variant in variants:
            yield variant.clamp(*bounds)
