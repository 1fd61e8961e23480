"""Training recipes as data: what is trained, on what, for how long. No torch here, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from model_under_test.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Adversary:
    """Inner maximisation of adversarial training in the Linf ball, in pixel fractions.

    One step of size ``step_size`` from the image itself is FGSM training (Goodfellow et al. 2015); several from a
    random start are PGD training (Madry et al. 2018, section 4). ``warmup_epochs`` raises eps linearly from 0:
    without it, training at eps 0.3 stays at chance for several epochs. ``clean_share`` of every batch stays unchanged
    (Goodfellow et al. 2015, section 6, mix one half).
    """

    eps: float
    steps: int
    step_size: float
    random_start: bool
    warmup_epochs: float
    clean_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that, with the data and the code, determines the weights."""

    name: str
    dataset: str
    summary: str
    epochs: int
    peak_rate: float = 1e-3
    cyclic: bool = False
    batch_size: int = 128
    seed: int = 7
    adversary: Adversary | None = None

    def config(self) -> dict[str, Any]:
        """Return the recipe as plain JSON-compatible data, without the prose."""
        plain = asdict(self)
        del plain["summary"]
        return plain


# A little more than the 0.3 that is judged: of the validation split more images then stand at 0.3 itself.
_PGD = Adversary(eps=0.34, steps=8, step_size=0.085, random_start=True, warmup_epochs=3.0)
_FGSM = Adversary(eps=0.25, steps=1, step_size=0.25, random_start=False, warmup_epochs=1.0, clean_share=0.5)

_MNIST = (
    # short, because it is trained many times over: clean references, poisoned copies, sanitised ones
    Recipe(
        "baseline", "mnist", "undefended: Adam, cross-entropy, one-cycle rate", epochs=2, peak_rate=3e-3, cyclic=True
    ),
    Recipe(
        "hardened",
        "mnist",
        "PGD adversarial training, Linf 0.34, 8 steps, random start, eps warm-up, one-cycle rate",
        epochs=24,
        peak_rate=2e-3,
        cyclic=True,
        adversary=_PGD,
    ),
    Recipe(
        "fgsm_hardened",
        "mnist",
        "planted liar: one-step (FGSM) adversarial training, which overfits to the one step it saw",
        epochs=5,
        adversary=_FGSM,
    ),
)

# The digits split has 827 images, so an epoch is 13 steps at batch 64; more epochs make up for it. Enlarged 8x8 scans
# are grey and smooth: trained at eps 0.3 they keep 99 % under one step and lose all but a third under 40 (validation
# split), so the budget there is smaller.
_DIGITS = (
    Recipe("baseline", "digits", "undefended: Adam, cross-entropy", epochs=40, batch_size=64),
    replace(
        _MNIST[1],
        dataset="digits",
        epochs=80,
        batch_size=64,
        adversary=Adversary(eps=0.15, steps=10, step_size=0.03, random_start=True, warmup_epochs=20.0),
    ),
    replace(
        _MNIST[2],
        dataset="digits",
        epochs=60,
        batch_size=64,
        adversary=replace(_FGSM, eps=0.15, step_size=0.15, warmup_epochs=10.0),
    ),
)

_TABLE = {(recipe.dataset, recipe.name): recipe for recipe in (*_MNIST, *_DIGITS)}


def find(name: str, dataset: str) -> Recipe:
    """Return a recipe by name and dataset.

    Raises:
        RecipeError: there is no such pair; the message lists what there is.
    """
    try:
        return _TABLE[dataset, name]
    except KeyError:
        known = ", ".join(f"{recipe} on {data}" for data, recipe in sorted(_TABLE))
        raise RecipeError(f"recipe: expected one of {known}; got {name!r} on {dataset!r}") from None


def names() -> tuple[str, ...]:
    """Return the recipe names, each once, in table order."""
    return tuple(dict.fromkeys(name for _, name in _TABLE))
