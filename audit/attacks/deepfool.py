"""DeepFool, by ART: steps onto the nearest linearised decision boundary, for the size of the smallest change.

Source: Moosavi-Dezfooli, Fawzi & Frossard 2016, arXiv:1511.04599, Algorithm 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import Norm, ThreatModel

if TYPE_CHECKING:
    import torch

    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class DeepFool(Attack):
    """At most ``steps`` steps in L2. It knows no budget: a perturbation beyond eps is cut back to it."""

    name: Literal["deepfool"] = "deepfool"
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)
    steps: Annotated[int, Field(ge=1)] = 100
    overshoot: Annotated[float, Field(gt=0.0)] = 0.02

    @property
    def minimal(self) -> bool:
        """It always looks for the smallest perturbation."""
        return True

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return the samples moved just beyond the nearest boundary found."""
        from art.attacks.evasion import DeepFool as ArtDeepFool

        from audit.attacks import art_adapter

        attack = ArtDeepFool(
            art_adapter.classifier(target, samples),
            max_iter=self.steps,
            epsilon=self.overshoot,
            nb_grads=target.classes,
            batch_size=art_adapter.BATCH,
            verbose=False,
        )
        return art_adapter.generate(attack, samples, target.bounds, steps=self.steps)
