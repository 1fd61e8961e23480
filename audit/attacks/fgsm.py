"""The fast gradient sign method: one step of size eps along the sign of the loss gradient.

Source: Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4. Held sample for sample to three libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from audit.attacks.interface import Attack, Moved
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch

    from audit.attacks.search import Search
    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Fgsm(Attack):
    """One step of the threat model's full eps; in L2 along the unit gradient. It has no parameters of its own."""

    name: Literal["fgsm"] = "fgsm"
    iterated: ClassVar[bool] = False

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return the samples moved by one step, whether that misleads the target or not."""
        from audit.attacks import search

        return search.run(target, samples, threat_model, self._attack)

    def _attack(self, search: Search) -> None:
        from audit.attacks.losses import log_odds
        from audit.attacks.search import direction, gradient

        _, _, slope = gradient(search.target, search.x, lambda logits: log_odds(logits, search.y), exact=True)
        search.take(search.project(search.x + search.eps * direction(slope, search.norm)))
