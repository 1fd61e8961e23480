"""Random noise of the full budget: no attack at all, and so the yardstick that every attack must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from audit.attacks.interface import Attack
from audit.records import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Noise(Attack):
    """Every pixel moves by plus or minus eps (Linf), or along a random direction of length eps (L2)."""

    name: Literal["noise"] = "noise"

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: Generator
    ) -> Tensor:
        """Return the samples plus noise; the target is not asked."""
        import torch

        drawn = torch.randn(samples.images.shape, generator=generator)
        if threat_model.norm is Norm.LINF:
            signs: Tensor = drawn.sign()
            return samples.images + threat_model.eps * signs
        length = drawn.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        directions: Tensor = drawn / length
        return samples.images + threat_model.eps * directions
