"""The attacks a policy may name. To add one: a file beside this one, and a row in the table."""

from audit.attacks.apgd import ApgdCe, ApgdT
from audit.attacks.autoattack import AutoAttack
from audit.attacks.corruption import Corruption
from audit.attacks.deepfool import DeepFool
from audit.attacks.fab import FabT
from audit.attacks.fgsm import Fgsm
from audit.attacks.hopskipjump import HopSkipJump
from audit.attacks.interface import Attack, Moved
from audit.attacks.noise import Noise
from audit.attacks.pgd import Pgd
from audit.attacks.square import Square

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": Fgsm,
    "pgd": Pgd,
    "apgd-ce": ApgdCe,
    "apgd-t": ApgdT,
    "fab-t": FabT,
    "square": Square,
    "autoattack": AutoAttack,
    "hopskipjump": HopSkipJump,
    "deepfool": DeepFool,
    "noise": Noise,
    "corruption": Corruption,
}

__all__ = [
    "ATTACKS",
    "ApgdCe",
    "ApgdT",
    "Attack",
    "AutoAttack",
    "Corruption",
    "DeepFool",
    "FabT",
    "Fgsm",
    "HopSkipJump",
    "Moved",
    "Noise",
    "Pgd",
    "Square",
]
