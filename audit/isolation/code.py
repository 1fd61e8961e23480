"""What there is to know of third-party code itself: whether its functions exist, and which files it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from audit.identity import modules_of, sources
from audit.loading import named_module, resolve
from audit.randomness import seeded


class Named(NamedTuple):
    """A function that a policy names, and the YAML path at which it does."""

    reference: str
    where: str


class Sources(NamedTuple):
    """Paths of the files of some code, and what could not be found out, in words."""

    files: tuple[str, ...]
    notes: tuple[str, ...]


def check(functions: Sequence[Named], root: Path) -> None:
    """Import every function.

    Raises:
        PolicyError: one of them does not exist.
    """
    for one in functions:
        resolve(one.reference, one.where, root)


def sources_of(references: Sequence[str], networks: Sequence[Named], root: Path) -> Sources:
    """Return the files that define functions, and the networks that factories build, and what those refer to.

    Files of PyTorch are left out, and those that installed packages refer to.
    """
    modules = {named_module(one, root) for one in references}
    notes = []
    for factory in networks:
        try:
            with seeded(0):
                network: nn.Module = resolve(factory.reference, factory.where, root)()
            modules |= modules_of(network)
        except Exception as error:  # a factory is foreign code
            name = factory.where.split(".")[1]
            notes.append(
                f"target {name}: its network could not be built ({type(error).__name__}), so its code is unknown"
            )
    found, compiled = sources(modules)
    return Sources(tuple(sorted(found | compiled)), tuple(notes))
