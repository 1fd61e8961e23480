"""Auto-PGD: projected gradient descent with momentum that sets its own step size, on cross-entropy or targeted DLR.

Source: Croce & Hein 2020, arXiv:2003.01690, section 4 and Algorithm 1 (the method), equation 7 (the targeted loss).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.attacks.search import Search
    from audit.loading import Samples
    from audit.target import WhiteBoxTarget

MOMENTUM = 0.75  # alpha of Algorithm 1
NEEDED_SHARE = 0.75  # rho: steps of a period that must have raised the loss
FIRST_PERIOD, SHORTENING, SHORTEST = 0.22, 0.03, 0.06  # section 4.2
DLR_CLASSES = 4  # the targeted DLR loss reads the third and fourth greatest logit


class ApgdCe(Attack):
    """``steps`` steps on cross-entropy, the worst of ``restarts`` random starts."""

    name: Literal["apgd-ce"] = "apgd-ce"
    steps: Annotated[int, Field(ge=4)] = 100
    restarts: Annotated[int, Field(ge=1)] = 1

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return, for every sample, the first iterate that misleads the target, else the last."""
        from audit.attacks import search

        def attack(batch: Search) -> None:
            for restart in range(self.restarts):
                ascend(batch, _cross_entropy, batch.y, self.steps, restart * self.steps, generator)

        return search.run(target, samples, threat_model, attack)


class ApgdT(Attack):
    """``steps`` steps on the targeted DLR loss for each of the ``targets`` likeliest wrong classes."""

    name: Literal["apgd-t"] = "apgd-t"
    steps: Annotated[int, Field(ge=4)] = 100
    targets: Annotated[int, Field(ge=1)] = 9

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return, for every sample, the first iterate that misleads the target, else the last.

        Raises:
            ValueError: the target has fewer than four classes, for which the loss is not defined.
        """
        from audit.attacks import search

        if target.classes < DLR_CLASSES:
            raise ValueError(f"apgd-t: the targeted DLR loss needs {DLR_CLASSES} classes, got {target.classes}")

        def attack(batch: Search) -> None:
            for rank in range(min(self.targets, target.classes - 1)):
                if len(batch):
                    wanted = wrong_classes(batch)[:, rank]
                    ascend(batch, _targeted_dlr, wanted, self.steps, rank * self.steps, generator)

        return search.run(target, samples, threat_model, attack)


def _cross_entropy(logits: Tensor, y: Tensor, _: Tensor) -> Tensor:
    """Return what rises with cross-entropy and has its direction, without its underflow."""
    from audit.attacks.losses import log_odds

    return log_odds(logits, y)


def _targeted_dlr(logits: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
    """Return equation 7: how far the wanted logit is above the true one, free of the logits' shift and scale."""
    ordered = logits.sort(dim=1, descending=True).values
    gap = logits.gather(1, wanted.view(-1, 1)) - logits.gather(1, y.view(-1, 1))
    return gap.squeeze(1) / (ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12)


def wrong_classes(search: Search) -> Tensor:
    """Return (n, classes - 1) the wrong classes of the standing samples, likeliest first."""
    import torch

    with torch.no_grad():
        logits = search.target.logits(search.x)
    return logits.scatter(1, search.y.view(-1, 1), -torch.inf).argsort(dim=1, descending=True)[:, :-1]


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size may be halved (section 4.2: p_0 = 0, p_1 = 0.22, ...)."""
    before, now, found = 0.0, FIRST_PERIOD, []
    while now <= 1.0:
        found.append(math.ceil(round(now * steps, 9)))
        before, now = now, now + max(now - before - SHORTENING, SHORTEST)
    return found


@dataclass(slots=True)
class _State:
    """Per-sample state; every field has one row for each standing sample."""

    wanted: Tensor  # (n,) the class a targeted loss is after
    moved: Tensor  # the point the next step starts from
    previous: Tensor  # the point before it
    slope: Tensor  # the gradient at ``moved``
    best: Tensor  # the point of the greatest loss so far
    best_slope: Tensor
    best_loss: Tensor  # (n,)
    loss: Tensor  # (n,) at ``moved``
    rises: Tensor  # (n,) steps of this period that raised the loss
    size: Tensor  # (n, 1, 1, 1)
    halved: Tensor  # (n,) whether the last checkpoint halved the step
    mark: Tensor  # (n,) the greatest loss at the last checkpoint

    def keep(self, stay: Tensor | None) -> None:
        if stay is not None:
            for name in self.__slots__:
                setattr(self, name, getattr(self, name)[stay])


def ascend(
    search: Search,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    wanted: Tensor,
    steps: int,
    spent: int,
    generator: torch.Generator,
) -> None:
    """Run Algorithm 1 once from a random start on the samples that stand.

    Args:
        search: the batch.
        loss: per-sample loss of logits (n, classes), true classes (n,) and wanted classes (n,); to be raised.
        wanted: (n,) the classes a targeted loss is after.
        steps: iterations.
        spent: steps that earlier runs took, for the record.
        generator: draws the start.
    """
    from audit.attacks.search import in_float32

    if not len(search):
        return
    state = _start(search, loss, wanted, spent, generator)
    periods, last = checkpoints(steps), 0
    for step in range(1, steps + 1):
        if not len(search):
            return
        state.previous, state.moved = state.moved, _step(search, state, first=step == 1)
        _evaluate(search, state, loss, spent + step, exact=in_float32(step, steps), last=step == steps)
        if step in periods:
            _adapt(state, step - last)
            last = step
    search.drop()


def _start(
    search: Search,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    wanted: Tensor,
    spent: int,
    generator: torch.Generator,
) -> _State:
    import torch

    from audit.attacks.search import gradient, random_start

    moved = random_start(search, generator)
    logits, losses, slope = gradient(search.target, moved, lambda logits: loss(logits, search.y, wanted))
    size = torch.full((len(moved), 1, 1, 1), 2 * search.eps, device=moved.device)
    state = _State(
        wanted=wanted, moved=moved, previous=moved, slope=slope, best=moved, best_slope=slope, best_loss=losses,
        loss=losses, rises=torch.zeros_like(losses), size=size, halved=torch.zeros_like(losses, dtype=torch.bool),
        mark=losses,
    )  # fmt: skip
    state.keep(search.look(moved, logits, spent))
    return state


def _step(search: Search, state: _State, *, first: bool) -> Tensor:
    """Return the next point: a projected step, from the second on with momentum (Algorithm 1, lines 6 and 7)."""
    from audit.attacks.search import direction

    ahead = search.project(state.moved + state.size * direction(state.slope, search.norm))
    if first:
        return ahead
    return search.project(
        state.moved + MOMENTUM * (ahead - state.moved) + (1 - MOMENTUM) * (state.moved - state.previous)
    )


def _evaluate(
    search: Search,
    state: _State,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    spent: int,
    *,
    exact: bool,
    last: bool,
) -> None:
    import torch

    from audit.attacks.search import gradient

    if last:
        with torch.no_grad():
            state.keep(search.look(state.moved, search.target.step_logits(state.moved), spent))
        return
    logits, losses, state.slope = gradient(
        search.target, state.moved, lambda logits: loss(logits, search.y, state.wanted), exact=exact
    )
    better = losses > state.best_loss
    chosen = better.view(-1, 1, 1, 1)
    state.best = torch.where(chosen, state.moved, state.best)
    state.best_slope = torch.where(chosen, state.slope, state.best_slope)
    state.best_loss = torch.where(better, losses, state.best_loss)
    state.rises = state.rises + (losses > state.loss)
    state.loss = losses
    state.keep(search.look(state.moved, logits, spent))


def _adapt(state: _State, period: int) -> None:
    """At a checkpoint, halve the step of samples that make no headway and take them back to their best point."""
    import torch

    few = state.rises < NEEDED_SHARE * period  # condition 1
    stuck = ~state.halved & (state.best_loss <= state.mark)  # condition 2
    halve = few | stuck
    chosen = halve.view(-1, 1, 1, 1)
    state.size = torch.where(chosen, state.size / 2, state.size)
    state.moved = torch.where(chosen, state.best, state.moved)
    state.slope = torch.where(chosen, state.best_slope, state.slope)
    state.halved, state.mark, state.rises = halve, state.best_loss, torch.zeros_like(state.rises)
