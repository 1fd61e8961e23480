"""Projected gradient descent, by ART: iterated steps inside the eps-ball from a random start.

Source: Madry et al. 2018, arXiv:1706.06083, section 2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attacks.interface import Attack
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Pgd(Attack):
    """``steps`` steps of ``step_size`` (unit of the pixel range), the worst of ``restarts`` random starts."""

    name: Literal["pgd"] = "pgd"
    steps: Annotated[int, Field(ge=1)] = 40
    step_size: Annotated[float, Field(gt=0.0)] = 0.01
    restarts: Annotated[int, Field(ge=1)] = 1

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Tensor:
        """Return, for every sample, the end of the run that misleads the target, else of the last run."""
        from art.attacks.evasion import ProjectedGradientDescentPyTorch

        from audit.attacks import art_adapter

        attack = ProjectedGradientDescentPyTorch(
            art_adapter.classifier(target, samples),
            norm=art_adapter.ART_NORMS[threat_model.norm],
            eps=threat_model.eps,
            eps_step=self.step_size,
            max_iter=self.steps,
            num_random_init=self.restarts,
            batch_size=art_adapter.BATCH,
            verbose=False,
        )
        return art_adapter.generate(attack, samples, generator)
