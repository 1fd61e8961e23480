"""The fast gradient sign method, by ART: one step of size eps along the sign of the loss gradient.

Source: Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from audit.attacks.interface import Attack, Moved
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch

    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Fgsm(Attack):
    """One step of the threat model's full eps. It has no parameters of its own."""

    name: Literal["fgsm"] = "fgsm"
    iterated: ClassVar[bool] = False

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return the samples moved by one step."""
        from art.attacks.evasion import FastGradientMethod

        from audit.attacks import art_adapter

        attack = FastGradientMethod(
            art_adapter.classifier(target, samples),
            norm=art_adapter.ART_NORMS[threat_model.norm],
            eps=threat_model.eps,
            eps_step=threat_model.eps,
            batch_size=art_adapter.BATCH,
        )
        return art_adapter.generate(attack, samples)
