"""FAB: walks along the decision boundary towards the smallest perturbation that changes the class, targeted.

Source: Croce & Hein 2020, arXiv:1907.02044, section 3 and Algorithm 1; the targeted form is that of Croce & Hein 2020,
arXiv:2003.01690, section 5. Projections onto a hyperplane within the box are found by Newton's method on the one
multiplier they have, which ends after finitely many steps because the function is piecewise linear and concave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import Norm, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.attacks.search import Search
    from audit.loading import Samples
    from audit.target import WhiteBoxTarget

OVERSHOOT = 1.05  # eta
PULL = 0.1  # alpha_max, weight of the original
BACKWARD = 0.9  # beta, how far of the way from the original the walk goes on after a success
BISECTIONS = 10  # final search between the original and the best point, to a thousandth of the way
NEWTON = 30  # a bound only: the projections below end by themselves


class FabT(Attack):
    """``steps`` steps towards the boundary of each of the ``targets`` likeliest wrong classes.

    With ``smallest`` a sample does not leave when a perturbation within eps is found: the walk goes on, and the size of
    what it ends with is the sample's distance to the nearest boundary found.
    """

    name: Literal["fab-t"] = "fab-t"
    steps: Annotated[int, Field(ge=1)] = 100
    targets: Annotated[int, Field(ge=1)] = 9
    smallest: bool = False

    @property
    def minimal(self) -> bool:
        """Tell whether it goes on to the smallest perturbation."""
        return self.smallest

    def perturb(
        self, target: WhiteBoxTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return, for every sample, the smallest perturbation found if it lies within eps, else the last one."""
        from audit.attacks import search

        def attack(batch: Search) -> None:
            walk = _Walk(batch, stop=not self.smallest)
            for rank in range(min(self.targets, target.classes - 1)):
                if len(batch):
                    walk.towards(rank, self.steps, rank * self.steps)
            walk.settle()

        return search.run(target, samples, threat_model, attack)


class _Walk:
    """The walk of one batch. All fields have one row for each standing sample."""

    def __init__(self, search: Search, *, stop: bool) -> None:
        import torch

        from audit.attacks.apgd import wrong_classes

        self._search, self._stop = search, stop
        self._classes = wrong_classes(search)
        self._best = search.x.clone()
        self._size = torch.full((len(search),), torch.inf, device=search.x.device)
        self._spent = 0

    def towards(self, rank: int, steps: int, spent: int) -> None:
        """Walk from the originals towards the wrong class of a rank."""
        moved = self._search.x
        for step in range(1, steps + 1):
            if not len(self._search):
                return
            self._spent = spent + step
            moved = self._step(moved, self._classes[:, rank])

    def settle(self) -> None:
        """Bisect between original and best image of what was found, and hand in what then lies within eps."""
        import torch

        from audit.metrics import distances

        search = self._search
        if not len(search):
            return
        far, near = torch.ones_like(self._size), torch.zeros_like(self._size)
        for _ in range(BISECTIONS):
            middle = (far + near) / 2
            fools = self._misleads(self._between(middle))
            far, near = torch.where(fools, middle, far), torch.where(fools, near, middle)
        best = self._between(far)
        with torch.no_grad():
            logits = search.target.step_logits(best)
        within = self._size.isfinite() & (distances(search.x, best, search.norm) <= search.eps)
        search.look(best, logits, self._spent, within=within)
        self._keep(search.drop())

    def _between(self, share: Tensor) -> Tensor:
        return self._search.x + share.view(-1, 1, 1, 1) * (self._best - self._search.x)

    def _misleads(self, moved: Tensor) -> Tensor:
        """Return (n,) which images are misclassified beyond rounding: the ends of a bisection lie on the boundary."""
        import torch

        with torch.no_grad():
            return self._search.misleads(moved, self._search.target.step_logits(moved))[1]

    def _step(self, moved: Tensor, wanted: Tensor) -> Tensor:
        """Take one step, note what it found, and return where the next one starts."""
        import torch

        from audit.metrics import distances

        search = self._search
        moved = self._approach(moved, wanted)
        with torch.no_grad():
            logits = search.target.step_logits(moved)
        size = distances(search.x, moved, search.norm)
        # float32 says of every point that may be kept whether it fools; the way back from the others needs but a hint
        may_count = (size < self._size) | (size <= search.eps)
        misled = search.misleads(moved, logits, may_count)
        fools, _ = misled
        better = fools & (size < self._size)
        self._best = torch.where(better.view(-1, 1, 1, 1), moved, self._best)
        self._size = torch.where(better, size, self._size)
        onwards = torch.where(fools.view(-1, 1, 1, 1), search.x + BACKWARD * (moved - search.x), moved)
        if not self._stop:
            return onwards
        stay = search.look(moved, logits, self._spent, within=size <= search.eps, misled=misled)
        self._keep(stay)
        return onwards if stay is None else onwards[stay]

    def _approach(self, moved: Tensor, wanted: Tensor) -> Tensor:
        """Step onto the linearised boundary, from the current point and, with less weight, from the original."""
        import torch

        from audit.attacks.search import gradient

        search = self._search
        _, gap, slope = gradient(
            search.target,
            moved,
            lambda logits: (logits.gather(1, search.y.view(-1, 1)) - logits.gather(1, wanted.view(-1, 1))).squeeze(1),
        )
        here, origin, flat = moved.flatten(1), search.x.flatten(1), slope.flatten(1)
        at_origin = gap + (flat * (origin - here)).sum(1)
        shifts = to_hyperplane(
            torch.cat((here, origin)),
            torch.cat((flat, flat)),
            torch.cat((gap, at_origin)),
            search.norm,
            search.target.bounds,
        )
        onto, from_origin = shifts.split(len(here))
        near, far = (_size(one, search.norm) for one in (onto, from_origin))
        pull = (near / (near + far).clamp(min=1e-12)).clamp(max=PULL).unsqueeze(1)
        point = (1 - pull) * (here + OVERSHOOT * onto) + pull * (origin + OVERSHOOT * from_origin)
        boxed: Tensor = point.clamp(*search.target.bounds)
        return boxed.view_as(moved)

    def _keep(self, stay: Tensor | None) -> None:
        if stay is not None:
            self._classes, self._best, self._size = self._classes[stay], self._best[stay], self._size[stay]


def to_hyperplane(points: Tensor, normals: Tensor, values: Tensor, norm: Norm, bounds: tuple[float, float]) -> Tensor:
    """Return the smallest shifts that bring points onto hyperplanes without leaving the pixel box.

    Args:
        points: (m, d) inside the box.
        normals: (m, d) w of the hyperplanes ``w . (z - point) + value = 0``.
        values: (m,).
        norm: what is to be smallest.
        bounds: least and greatest pixel value.

    Returns:
        (m, d); where the box does not reach the hyperplane, the shift that comes closest to it.
    """
    import torch

    downwards = (normals > 0) == (values > 0).unsqueeze(1)  # which way a pixel has to move
    room = torch.where(downwards, points - bounds[0], bounds[1] - points)
    weights, wanted = normals.abs(), values.abs()
    speeds = torch.ones_like(weights) if norm is Norm.LINF else weights  # a pixel moves min(t * speed, room)
    room = torch.where(weights > 0, room, torch.zeros_like(room))
    gains = weights * speeds
    t = torch.zeros_like(wanted)
    for _ in range(NEWTON):
        reach = t.unsqueeze(1) * speeds
        missing = wanted - (weights * torch.minimum(reach, room)).sum(1)
        rate = (gains * (reach < room)).sum(1)
        going = (missing > 1e-6 * wanted) & (rate > 0)
        if points.device.type == "cpu" and not bool(going.any()):  # on a GPU asking takes longer than going on
            break
        t = torch.where(going, t + missing / rate.clamp(min=1e-30), t)
    shift = torch.minimum(t.unsqueeze(1) * speeds, room)
    return torch.where(downwards, -shift, shift)


def _size(delta: Tensor, norm: Norm) -> Tensor:
    size: Tensor = delta.abs().amax(1) if norm is Norm.LINF else delta.norm(dim=1)
    return size
