"""What an attack is: a record of its parameters that can move samples. It counts, clips and judges nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from audit.records import Knowledge, Norm, Record, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.loading import Samples


@dataclass(frozen=True, slots=True)
class Moved:
    """What an attack returns, on the CPU and in the order of the samples.

    ``images`` (N, C, H, W) float32. ``steps`` (N,) int64: at which gradient step or query the image was found, for an
    image that misleads nobody how many were spent.
    """

    images: Tensor
    steps: Tensor


class Attack(Record, ABC):
    """Base of all attacks. The harness projects, re-predicts and counts; an attack's own claim is not trusted.

    ``knowledge`` is what it is shown of the target: gradients, scores or labels. ``iterated`` attacks are decided block
    by block, the others look at all samples. ``bounded`` ones keep to an eps-ball, of one of the ``norms``; the others
    to the pixel box only.
    """

    name: str
    knowledge: ClassVar[Knowledge] = Knowledge.WHITE_BOX
    iterated: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2)

    @abstractmethod
    def perturb(self, target: Any, samples: Samples, threat_model: ThreatModel, generator: torch.Generator) -> Moved:
        """Return moved images.

        Args:
            target: what ``knowledge`` allows to see: a WhiteBoxTarget, a ScoreTarget or a Target.
            samples: images (N, C, H, W) float32 in the target's bounds, with true labels.
            threat_model: norm and eps of the budget. Under ``Knowledge.TRANSFER`` misleading this target is not the
                aim, so the attack must not stop where it does.
            generator: the only source of randomness, on the CPU.
        """

    @property
    def minimal(self) -> bool:
        """Tell whether it looks for the smallest perturbation, so that one run answers for every smaller eps."""
        return False

    def stages(self, classes: int) -> tuple[Attack, ...]:
        """Return the attacks it is made of, each to be run on the samples that still stand; by itself, one."""
        return (self,)

    def describe(self) -> dict[str, Any]:
        """Return name and parameters, as they are shown and as they address stored results."""
        return self.model_dump(mode="json")
