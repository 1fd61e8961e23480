"""Random noise of the full budget: no attack at all, and so the yardstick that every attack must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from audit.attacks.interface import Attack, Moved
from audit.records import Knowledge, Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Generator

    from audit.loading import Samples


class Noise(Attack):
    """Every pixel moves by plus or minus eps (Linf), or along a random direction of length eps (L2)."""

    name: Literal["noise"] = "noise"
    knowledge: ClassVar[Knowledge] = Knowledge.BLACK_BOX_LABEL
    iterated: ClassVar[bool] = False

    def perturb(self, target: Any, samples: Samples, threat_model: ThreatModel, generator: Generator) -> Moved:
        """Return the samples plus noise; the target is not asked."""
        import torch

        drawn = torch.randn(samples.images.shape, generator=generator)
        if threat_model.norm is Norm.LINF:
            shift = drawn.sign()
        else:
            shift = drawn / drawn.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        return Moved(samples.images + threat_model.eps * shift, torch.ones_like(samples.labels))
