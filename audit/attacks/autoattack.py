"""AutoAttack, the standard ensemble: four attacks that fail in different ways, each on the samples still standing.

Source: Croce & Hein 2020, arXiv:2003.01690, section 6: APGD on cross-entropy, targeted APGD on DLR and targeted FAB
(nine classes each, 100 steps), Square with 5,000 queries, no parameter left to tune.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from audit.attacks.apgd import DLR_CLASSES, ApgdCe, ApgdT
from audit.attacks.fab import FabT
from audit.attacks.interface import Attack, Moved
from audit.attacks.square import Square
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch

    from audit.loading import Samples

FEW_CLASSES_RESTARTS = 5


class AutoAttack(Attack):
    """The standard composition. It has no parameters: results are comparable only where the composition is the same.

    The targeted DLR loss is not defined for fewer than four classes. There targeted APGD is left out, and cross-entropy
    gets five restarts instead of one.
    """

    name: Literal["autoattack"] = "autoattack"

    def stages(self, classes: int) -> tuple[Attack, ...]:
        """Return the four attacks, three where there are fewer than four classes."""
        targets = min(9, classes - 1)
        if classes < DLR_CLASSES:
            return ApgdCe(restarts=FEW_CLASSES_RESTARTS), FabT(targets=targets), Square()
        return ApgdCe(), ApgdT(targets=targets), FabT(targets=targets), Square()

    def perturb(self, target: Any, samples: Samples, threat_model: ThreatModel, generator: torch.Generator) -> Moved:
        """Never called: the harness runs the stages.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("autoattack is run stage by stage")
