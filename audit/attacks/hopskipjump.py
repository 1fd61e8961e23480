"""HopSkipJump, by ART: walks along the decision boundary, told nothing but the predicted class.

Source: Chen, Jordan & Wainwright 2020, arXiv:1904.02144.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import Knowledge, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.loading import Samples
    from audit.target import Target

START_DRAWS = 100  # random images tried as a start, before other samples


class HopSkipJump(Attack):
    """``steps`` iterations of at most ``queries`` queries each, from a random image of another class."""

    name: Literal["hopskipjump"] = "hopskipjump"
    knowledge: ClassVar[Knowledge] = Knowledge.BLACK_BOX_LABEL
    steps: Annotated[int, Field(ge=1)] = 20
    queries: Annotated[int, Field(ge=100)] = 1000

    def perturb(self, target: Target, samples: Samples, threat_model: ThreatModel, generator: torch.Generator) -> Moved:
        """Return, for every sample, the nearest image of another class found; itself where no start was found."""
        from art.attacks.evasion import HopSkipJump as ArtHopSkipJump

        from audit.attacks import art_adapter

        if not len(samples):
            return Moved(samples.images.clone(), samples.labels.clone())
        starts, startable = _starts(target, samples, generator)
        chosen = samples.at(startable)
        attack = ArtHopSkipJump(
            art_adapter.labels_only(target, samples),
            batch_size=art_adapter.BATCH,
            norm=art_adapter.ART_NORMS[threat_model.norm],
            max_iter=self.steps,
            max_eval=self.queries,
            init_eval=min(100, self.queries),
            verbose=False,
        )
        found = art_adapter.generate(attack, chosen, target.bounds, steps=self.steps, starts=starts[startable])
        images, steps = samples.images.clone(), samples.labels * 0 + self.steps
        images[startable] = found.images
        return Moved(images, steps)


def _starts(target: Target, samples: Samples, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return for every sample an image of another predicted class, noise if possible, and (N,) whether there is one.

    ART would draw them from a random state that nobody can seed.
    """
    import torch

    low, high = target.bounds
    noise = low + (high - low) * torch.rand((START_DRAWS, *samples.images.shape[1:]), generator=generator)
    candidates = torch.cat((noise, samples.images))
    differs = target.predict(candidates).unsqueeze(0) != target.predict(samples.images).unsqueeze(1)
    return candidates[differs.int().argmax(1)], differs.any(1)
