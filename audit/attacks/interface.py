"""What an attack is: a record of its parameters that can move samples. It counts, clips and judges nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from audit.records import Record, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Attack(Record, ABC):
    """Base of all attacks. The harness projects, re-predicts and counts; an attack's own claim is not trusted."""

    @abstractmethod
    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Tensor:
        """Return moved images.

        Args:
            target: attacked through its own logits and gradients.
            samples: images (N, C, H, W) float32 in the target's bounds, with true labels.
            threat_model: norm and eps of the budget.
            generator: the only source of randomness.

        Returns:
            (N, C, H, W) float32 on the CPU, in the order of the samples.
        """
