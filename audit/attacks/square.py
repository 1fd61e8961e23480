"""Square: random search with square-shaped changes, told nothing but the scores.

Source: Andriushchenko, Croce, Flammarion & Hein 2020, arXiv:1912.00049, section 3: Algorithm 1 (the search),
Algorithm 2 (Linf proposals), Algorithm 3 (L2 proposals), and the halving schedule of the square's size of section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from audit.attacks.interface import Attack, Moved
from audit.records import Knowledge, Norm, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.attacks.search import Search
    from audit.loading import Samples
    from audit.target import ScoreTarget

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, section 5
TILE_COUNT = 5  # the L2 search starts from a grid of so many bumps a side


class Square(Attack):
    """At most ``queries`` queries an image; squares begin with the share ``first_share`` of the pixels."""

    name: Literal["square"] = "square"
    knowledge: ClassVar[Knowledge] = Knowledge.BLACK_BOX_SCORE
    queries: Annotated[int, Field(ge=1)] = 5000
    first_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8

    def perturb(
        self, target: ScoreTarget, samples: Samples, threat_model: ThreatModel, generator: torch.Generator
    ) -> Moved:
        """Return, for every sample, the first image that misleads the target, else the last."""
        from audit.attacks import search

        return search.run(target, samples, threat_model, lambda batch: self._attack(batch, generator))

    def _attack(self, search: Search, generator: torch.Generator) -> None:
        import torch

        from audit.attacks.search import margins, select

        proposals = (_Linf if search.norm is Norm.LINF else _L2)(search, generator)
        moved = proposals.start()
        with torch.no_grad():
            logits = search.target.step_logits(moved)
            least = margins(logits, search.y)
            stay = search.look(moved, logits, 1)
            for query in range(2, self.queries + 1):
                if stay is not None:
                    moved, least = select(stay, moved, least)
                    proposals.keep(stay)
                if not len(search):
                    return
                tried = proposals.propose(moved, self._side(query, search.x))
                logits = search.target.step_logits(tried)
                left = margins(logits, search.y)
                better = left < least
                moved = torch.where(better.view(-1, 1, 1, 1), tried, moved)
                least = torch.where(better, left, least)
                stay = search.look(tried, logits, query)
            search.drop()

    def _side(self, query: int, x: Tensor) -> int:
        """Return the side of the square in pixels: its share of the image halves on schedule."""
        share = self.first_share / 2 ** sum(query > at for at in HALVINGS)
        height, width = x.shape[-2:]
        return int(min(max(round((share * height * width) ** 0.5), 1), height, width))


class _Linf:
    """Proposals in the Linf ball: every pixel at an end of its range (Algorithm 2)."""

    def __init__(self, search: Search, generator: torch.Generator) -> None:
        self._search, self._generator = search, generator
        self._low, self._high = search.project(search.x - search.eps), search.project(search.x + search.eps)

    def start(self) -> Tensor:
        """Return vertical stripes."""
        import torch

        n, channels, _, width = self._search.x.shape
        return torch.where(self._coins((n, channels, 1, width)), self._high, self._low)

    def propose(self, moved: Tensor, side: int) -> Tensor:
        """Set one square of every image to one end, a channel at a time."""
        import torch

        n, channels = moved.shape[:2]
        up = self._coins((n, channels, 1, 1))
        inside = _inside(self._search, _corners(self._search, side, self._generator), side)
        tried = torch.where(inside, torch.where(up, self._high, self._low), moved)
        same = (tried == moved).flatten(1).all(1).view(-1, 1, 1, 1)
        # a query that changes nothing is turned round
        return torch.where(same & inside, torch.where(up, self._low, self._high), tried)

    def keep(self, stay: Tensor) -> None:
        """Drop the rows that have left."""
        self._low, self._high = self._low[stay], self._high[stay]

    def _coins(self, shape: tuple[int, ...]) -> Tensor:
        import torch

        return torch.randint(2, shape, generator=self._generator).bool().to(self._search.x.device)


class _L2:
    """Proposals in the L2 ball: length is moved between squares (Algorithm 3)."""

    def __init__(self, search: Search, generator: torch.Generator) -> None:
        self._search, self._generator = search, generator

    def start(self) -> Tensor:
        """Return a grid of bumps of random sign, scaled to length eps."""
        import torch

        search = self._search
        n, channels, height, width = search.x.shape
        side = max(min(height, width) // TILE_COUNT, 1)
        bump = _bump(side, side)
        shift = torch.zeros(n, channels, height, width)
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                shift[:, :, top : top + side, left : left + side] = self._signs(n, channels) * bump
        shift = shift / shift.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return search.project(search.x + search.eps * shift.to(search.x.device))

    def propose(self, moved: Tensor, side: int) -> Tensor:
        """Move the length spent in two squares of every image into the first, in a new shape."""
        import torch

        search = self._search
        n, channels, height, width = search.x.shape
        side = min(max(side | 1, 3), height, width)
        delta = moved - search.x
        to, source = (_corners(search, side, self._generator) for _ in range(2))
        into, out_of = _inside(search, to, side), _inside(search, source, side)
        spare = (search.eps**2 - delta.flatten(1).square().sum(1)).clamp(min=0).view(-1, 1) / channels
        available = ((delta.square() * (into | out_of)).sum((2, 3)) + spare).sqrt().view(n, channels, 1, 1)
        across = torch.arange(side, device=search.x.device)
        rows, columns = to[0].view(-1, 1, 1) + across.view(1, -1, 1), to[1].view(-1, 1, 1) + across.view(1, 1, -1)
        image = torch.arange(n, device=search.x.device).view(-1, 1, 1)
        patch = delta[image, :, rows, columns].permute(0, 3, 1, 2)
        upright = torch.randint(2, (n, 1, 1, 1), generator=self._generator).bool()
        pattern = _halves(side)
        change = self._signs(n, channels) * torch.where(upright, pattern, pattern.T)
        shape = change.to(search.x.device) + _unit(patch)
        delta = torch.where(out_of, torch.zeros_like(delta), delta)
        delta[image, :, rows, columns] = (_unit(shape) * available).permute(0, 2, 3, 1)
        return search.project(search.x + delta)

    def keep(self, stay: Tensor) -> None:
        """Drop the rows that have left: it keeps no rows of its own."""

    def _signs(self, n: int, channels: int) -> Tensor:
        import torch

        coins = torch.randint(2, (n, channels, 1, 1), generator=self._generator)
        return 2.0 * coins - 1


def _bump(height: int, width: int) -> Tensor:
    """Return the (height, width) pattern of Algorithm 3: greatest in the middle, of length one."""
    import torch

    half = height // 2
    down = (torch.arange(height) - half).abs().view(-1, 1)
    across = (torch.arange(width) - width // 2).abs().view(1, -1)
    depth = (half - torch.maximum(down, across)).clamp(min=0)
    terms = torch.tensor([1.0 / (half + 1 - k) ** 2 for k in range(half + 1)])
    bump: Tensor = terms.cumsum(0)[depth]
    unit: Tensor = bump / torch.linalg.vector_norm(bump)
    return unit


def _halves(side: int) -> Tensor:
    """Return (side, side) of length one: a positive bump beside a negative one."""
    import torch

    left = side // 2
    pattern = torch.zeros(side, side)
    pattern[:, :left] = _bump(side, left)
    pattern[:, left:] = -_bump(side, side - left)
    halves: Tensor = pattern / pattern.norm()
    return halves


def _unit(patch: Tensor) -> Tensor:
    lengths: Tensor = patch.flatten(2).norm(dim=2).clamp(min=1e-12)
    unit: Tensor = patch / lengths.view(*patch.shape[:2], 1, 1)
    return unit


def _corners(search: Search, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return top and left (n,) of a square of a side at a random place of each image."""
    import torch

    n, _, height, width = search.x.shape
    top = torch.randint(height - side + 1, (n,), generator=generator)
    left = torch.randint(width - side + 1, (n,), generator=generator)
    return top.to(search.x.device), left.to(search.x.device)


def _inside(search: Search, corner: tuple[Tensor, Tensor], side: int) -> Tensor:
    """Return (n, 1, H, W) bool, true inside the squares."""
    import torch

    top, left = (one.view(-1, 1, 1, 1) for one in corner)
    rows = torch.arange(search.x.shape[-2], device=search.x.device).view(1, 1, -1, 1)
    columns = torch.arange(search.x.shape[-1], device=search.x.device).view(1, 1, 1, -1)
    return (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
