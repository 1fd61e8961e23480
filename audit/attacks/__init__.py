"""The attacks a policy may name. To add one: a file beside this one, and a row in the table."""

from audit.attacks.fgsm import Fgsm
from audit.attacks.interface import Attack
from audit.attacks.noise import Noise
from audit.attacks.pgd import Pgd

ATTACKS: dict[str, type[Attack]] = {"fgsm": Fgsm, "pgd": Pgd, "noise": Noise}

__all__ = ["ATTACKS", "Attack", "Fgsm", "Noise", "Pgd"]
