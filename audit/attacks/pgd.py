"""Projected gradient descent: iterated steps inside the eps-ball from a random start.

Source: Madry et al. 2018, arXiv:1706.06083, section 2.1. Two things are stricter than there: every iterate is looked
at, not only the last, and a sample that is broken leaves the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch

    from audit.attacks.search import Search
    from audit.loading import Samples
    from audit.target import WhiteBoxTarget


class Pgd(Attack):
    """``steps`` steps of ``step_size`` (unit of the pixel range), the worst of ``restarts`` starts.

    The starts are drawn uniformly from the ball, or are the image itself without ``random_start``.
    """

    name: Literal["pgd"] = "pgd"
    steps: Annotated[int, Field(ge=1)] = 40
    step_size: Annotated[float, Field(gt=0.0)] = 0.01
    restarts: Annotated[int, Field(ge=1)] = 1
    random_start: bool = True

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return, for every sample, the first iterate that misleads the target, else the last."""
        from audit.attacks import search

        return search.run(target, samples, threat_model, lambda batch: self._attack(batch, generator))

    def _attack(self, search: Search, generator: torch.Generator) -> None:
        for restart in range(self.restarts):
            if len(search):
                self._run(search, generator, restart * self.steps)

    def _run(self, search: Search, generator: torch.Generator, spent: int) -> None:
        import torch

        from audit.attacks.losses import log_odds
        from audit.attacks.search import direction, gradient, in_float32, random_start, select

        target = search.target
        moved = random_start(search, generator) if self.random_start else search.x
        for step in range(self.steps):
            exact = in_float32(step, self.steps)
            logits, _, slope = gradient(target, moved, lambda logits: log_odds(logits, search.y), exact=exact)
            moved, slope = select(search.look(moved, logits, spent + step), moved, slope)
            if not len(search):
                return
            moved = search.project(moved + self.step_size * direction(slope, search.norm))
        with torch.no_grad():
            search.look(moved, target.step_logits(moved), spent + self.steps)
        search.drop()
