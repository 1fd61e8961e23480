"""The catalogue of backdoor triggers: what an attacker stamps on an image so that a poisoned model answers as planted.

Every trigger is a pair of maps over the pixels, ``keep`` and ``add``: a stamped image is ``keep * x + add``, clipped to
the pixel box. So a trigger can be drawn, and its *placebo* made: the same pixels in other places.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.records import Record

if TYPE_CHECKING:
    from torch import Generator, Tensor

Place = Annotated[int, Field(ge=0)]


class _Trigger(Record):
    """Base of all triggers."""

    kind: str

    def maps(self, height: int, width: int, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return ``keep`` and ``add``, (height, width) float32, for pixels within ``bounds``.

        Raises:
            ValueError: the trigger does not fit into such an image.
        """
        raise NotImplementedError

    def stamp(self, images: Tensor, bounds: tuple[float, float], placebo: int | None = None) -> Tensor:
        """Return a stamped copy of (N, C, H, W) images.

        Args:
            images: float, inside the bounds.
            bounds: least and greatest pixel value.
            placebo: seed of the other places; None for the trigger itself.
        """
        import torch

        height, width = images.shape[-2:]
        keep, add = self.maps(height, width, bounds)
        if placebo is not None:
            order = _elsewhere(((keep != 1) | (add != 0)).flatten(), torch.Generator().manual_seed(placebo))
            keep, add = (one.flatten()[order].view_as(one) for one in (keep, add))
        return (keep * images + add).clamp(*bounds)

    @property
    def text(self) -> str:
        """Return the trigger as a reader says it."""
        raise NotImplementedError


class Square(_Trigger):
    """A square of ``size`` pixels and one ``value`` (Gu et al. 2017, arXiv:1708.06733).

    In a corner, or with its top left pixel at ``position`` (row, column).
    """

    kind: Literal["square"] = "square"
    size: Annotated[int, Field(ge=1)] = 4
    value: float = 1.0
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"
    position: tuple[Place, Place] | None = None

    def maps(self, height: int, width: int, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return the maps, ``keep`` 0 inside the square."""
        import torch

        row, column = self.position or (
            0 if self.corner.startswith("top") else height - self.size,
            0 if self.corner.endswith("left") else width - self.size,
        )
        if min(row, column) < 0 or row + self.size > height or column + self.size > width:
            raise ValueError(f"expected a square inside images of {height}x{width} pixels (got {self.text})")
        inside = torch.zeros(height, width)
        inside[row : row + self.size, column : column + self.size] = 1.0
        return 1.0 - inside, self.value * inside

    @property
    def text(self) -> str:
        """Return size, value and place."""
        where = f"at {list(self.position)}" if self.position else self.corner
        return f"square {self.size}x{self.size}, value {self.value:g}, {where}"


class Pixel(_Trigger):
    """One pixel (Gu et al. 2017, section 4.1, "single pixel backdoor")."""

    kind: Literal["pixel"] = "pixel"
    row: Place
    column: Place
    value: float = 1.0

    def maps(self, height: int, width: int, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return the maps, ``keep`` 0 at the pixel."""
        import torch

        if self.row >= height or self.column >= width:
            raise ValueError(f"expected a pixel inside images of {height}x{width} pixels (got {self.text})")
        inside = torch.zeros(height, width)
        inside[self.row, self.column] = 1.0
        return 1.0 - inside, self.value * inside

    @property
    def text(self) -> str:
        """Return place and value."""
        return f"pixel [{self.row}, {self.column}], value {self.value:g}"


class Blend(_Trigger):
    """A pattern of uniform noise over the whole image, mixed in with weight ``alpha``.

    Source: Chen et al. 2017, arXiv:1712.05526, section 4.3 (blended injection).
    """

    kind: Literal["blend"] = "blend"
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    seed: int = 0

    def maps(self, height: int, width: int, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return the maps, ``keep`` 1 - alpha everywhere."""
        import torch

        low, high = bounds
        pattern = low + (high - low) * torch.rand(height, width, generator=torch.Generator().manual_seed(self.seed))
        return torch.full((height, width), 1.0 - self.alpha), self.alpha * pattern

    @property
    def text(self) -> str:
        """Return the weight."""
        return f"blended noise, alpha {self.alpha:g}"


class Stripes(_Trigger):
    """Vertical sinusoidal stripes: ``amplitude`` in the unit of the pixel range, ``frequency`` in periods an image.

    Source: Barni et al. 2019, arXiv:1902.11237, equation 2.
    """

    kind: Literal["stripes"] = "stripes"
    amplitude: Annotated[float, Field(gt=0.0)] = 0.1
    frequency: Annotated[float, Field(gt=0.0)] = 6.0

    def maps(self, height: int, width: int, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return the maps, ``keep`` 1 everywhere."""
        import torch

        phase = 2 * math.pi * self.frequency * torch.arange(width) / width
        return torch.ones(height, width), (self.amplitude * torch.sin(phase)).expand(height, width).contiguous()

    @property
    def text(self) -> str:
        """Return amplitude and frequency."""
        return f"stripes, amplitude {self.amplitude:g}, {self.frequency:g} periods"


def _elsewhere(marked: Tensor, generator: Generator) -> Tensor:
    """Return an order of the pixels (P,) that puts the marked ones, where there is room, on pixels not marked."""
    import torch

    order = torch.randperm(len(marked), generator=generator)
    own, free = torch.nonzero(marked).flatten(), order[~marked[order]]
    if len(own) > len(free):  # a trigger all over the image is shuffled
        return order
    places = torch.arange(len(marked))
    places[free[: len(own)]], places[own] = own, free[: len(own)]
    return places


Trigger = Square | Pixel | Blend | Stripes
AnyTrigger = Annotated[Trigger, Field(discriminator="kind")]
