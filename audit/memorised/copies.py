"""Looks for images among the tensors of a network: copies of them, whatever was done to each copy as a whole.

Two ways. *Fingerprints*: the pixels of an image, stretched to 256 levels and sorted, equal those of a stored row;
brightness, contrast, sign and any fixed order of the pixels make no difference. *Correlation*: a stored row is like one
image and like no other; this finds what was rounded, resized, cropped or standardised pixel by pixel, and copies with
noise on them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

COMPARED = 1_000  # images that rows are correlated with
MOST_COMPARED = 20_000_000  # pixels of those
MOST_PRINTED = 50_000_000  # pixels of the images whose fingerprints are taken
FIRST_ROWS = 1_000  # of one tensor that are correlated, evenly spread; of none like an image, no more
MOST_ROWS = 16_000_000  # numbers of one tensor that are correlated
AT_ONCE = 4_000_000  # numbers that are looked at in one step
LIKE, UNLIKE_OTHERS = 0.8, 0.7  # correlation with one image, and how much further that is (Fisher's z) than the next
LEVELS = 32  # that an image must have for its sorted pixels to tell it from others
FEW_ROWS = 50  # below which a mean over the rows says nothing
SMALL = 16  # images; tensors that hold fewer numbers than these are looked at together, by shape
EXTRA = 64  # numbers that a row may have beside its pixels, a label for example
LEAST_SIDE, GREATEST_SIDE = 1 / 3, 2  # of resized copies, as shares of the image's
LEAST_LENGTH = 36  # numbers of a resized or partial copy; fewer are like anything
MOST_PARTS = 4  # equal parts that an image may be stored in
CONSTANT = 1e-4  # standard deviation, as a share of the greatest one, below which a row shows nothing


@dataclass(slots=True)
class Copies:
    """What was found: places of images, by the name of the tensor that holds copies of them; and what was looked at.

    ``rows`` counts all rows, whose fingerprints were taken, ``correlated`` those that were correlated, ``like_images``
    those like one image at least.
    """

    of: dict[str, set[int]] = field(default_factory=dict)
    tensors: int = 0
    as_images: int = 0
    rows: int = 0
    like_images: int = 0
    correlated: int = 0

    @property
    def found(self) -> set[int]:
        """Return the places of all images of which there is a copy."""
        return set[int]().union(*self.of.values())


def find(tensors: Iterable[tuple[str, Tensor]], images: Tensor) -> Copies:
    """Look for images among tensors.

    Args:
        tensors: with a name for each.
        images: (N, C, H, W) float, the most important ones first: only the first thousand are correlated with.
    """
    copies, album = Copies(), _Album(images)
    for name, tensor in _together(tensors, album.pixels):
        copies.tensors += 1
        rows = list(album.rows(tensor))
        copies.as_images += bool(rows)
        found = set[int]().union(*(_look(one, album, copies) for one in rows))
        if found:
            copies.of[name] = found
    return copies


def _look(rows: Tensor, album: _Album, copies: Copies) -> set[int]:
    """Return the places of the images that rows (R, D) are copies of.

    Where none of the first rows looked at is like an image, the others are held against fingerprints only.
    """
    copies.rows += len(rows)
    found = set[int]()
    if rows.shape[1] == album.pixels:
        found |= {album.prints[one] for one in _fingerprints(rows) if one in album.prints}
    most = max(1, MOST_ROWS // rows.shape[1])
    first = _spread(rows, min(FIRST_ROWS, most))
    correlated, like = _correlated(first, album)
    if like and len(first) < min(len(rows), most):
        first = _spread(rows, most)
        correlated, like = _correlated(first, album)
    copies.correlated += len(first)
    copies.like_images += like
    return found | correlated


def _spread(rows: Tensor, most: int) -> Tensor:
    """Return at most so many rows, evenly spread, as finite float32."""
    if len(rows) > most:
        rows = rows[torch.linspace(0, len(rows) - 1, most).long()]
    return rows.float().nan_to_num(0.0, 0.0, 0.0)


def most_compared(images: Tensor) -> int:
    """Return how many images of this size rows are correlated with."""
    return min(COMPARED, max(1, MOST_COMPARED // images[0].numel()))


class _Album:
    """Images, in the forms in which they may be stored."""

    def __init__(self, images: Tensor) -> None:
        _, self._channels, self._height, self._width = images.shape
        self.pixels = math.prod(images.shape[1:])
        self._all = images
        self._images = images[: most_compared(images)].float()
        self._sizes = {c * h * w: (h, w) for c in {1, self._channels} for h, w in self._sides()}
        self._known: dict[tuple[int, bool], list[Tensor]] = {}

    @cached_property
    def prints(self) -> dict[bytes, int]:
        """Return the place of each image by its fingerprint, and by its negative's, where no other image shares it."""
        rows = self._all[: max(1, MOST_PRINTED // self.pixels)].flatten(1)
        found: dict[bytes, int] = {}
        shared: set[bytes] = set()
        for signed in (rows, -rows):
            for place, one in enumerate(_fingerprints(signed)):
                if found.setdefault(one, place) != place:
                    shared.add(one)
        return {one: place for one, place in found.items() if one and one not in shared}

    def _sides(self) -> Iterator[tuple[int, int]]:
        for height in range(math.ceil(LEAST_SIDE * self._height), GREATEST_SIDE * self._height + 1):
            if (height * self._width) % self._height == 0:
                yield height, height * self._width // self._height

    def rows(self, tensor: Tensor) -> Iterator[Tensor]:
        """Yield the ways (rows, pixels) in which a tensor's numbers may be images.

        Each run of neighbouring axes of a fitting size may be an image, then the tensor as one line.
        """
        shape = [size for size in tensor.shape if size > 1]
        tensor, fits = tensor.reshape(shape), False
        for first in range(len(shape)):
            for last in range(first + 1, len(shape) + 1):
                if self._fits(math.prod(shape[first:last])):
                    fits |= math.prod(shape[first:last]) == self.pixels
                    axes = [*range(first), *range(last, len(shape)), *range(first, last)]
                    yield tensor.permute(axes).reshape(-1, math.prod(shape[first:last]))
        if not fits and tensor.numel() >= self.pixels:
            yield from self._in_line(tensor)

    def _in_line(self, tensor: Tensor) -> Iterator[Tensor]:
        width = tensor.shape[-1]
        if self.pixels < width <= self.pixels + EXTRA:
            rows = tensor.reshape(-1, width)
            yield from (rows[:, : self.pixels], rows[:, width - self.pixels :])
            return
        line, over = tensor.reshape(-1), tensor.numel() % self.pixels
        yield line[: len(line) - over].view(-1, self.pixels)
        if over:
            yield line[over:].view(-1, self.pixels)

    def _fits(self, length: int) -> bool:
        if length < LEAST_LENGTH:
            return length == self.pixels
        return length in self._sizes or self._parts(length) > 1

    def _parts(self, length: int) -> int:
        parts, over = divmod(self.pixels, length)
        return parts if not over and parts <= MOST_PARTS else 0

    def forms(self, length: int, *, standardise: bool) -> list[Tensor]:
        """Return unit rows (N, length), once for each way in which so many numbers may be an image."""
        key = length, standardise
        if key not in self._known:
            made = self._whole() if length == self.pixels else self._smaller(length)
            self._known[key] = [_unit(_standardised(form) if standardise else form) for form in made]
        return self._known[key]

    def _whole(self) -> Iterator[Tensor]:
        yield self._images.flatten(1)
        if self._channels > 1:
            yield self._images.movedim(1, -1).flatten(1)

    def _smaller(self, length: int) -> Iterator[Tensor]:
        if length in self._sizes:
            height, width = self._sizes[length]
            images = self._images if length == self._channels * height * width else self._images.mean(1, keepdim=True)
            yield functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True).flatten(1)
            if (height, width) != (self._height, self._width):
                yield _centred(images, height, width).flatten(1)
        if self._parts(length) > 1:
            yield from self._images.flatten(1).split(length, dim=1)


def _centred(images: Tensor, height: int, width: int) -> Tensor:
    """Return images (N, C, H, W) cropped, or padded with their least value, to another size around their centre."""
    top, left = (height - images.shape[2]) // 2, (width - images.shape[3]) // 2
    sides = (left, width - images.shape[3] - left, top, height - images.shape[2] - top)
    return functional.pad(images, sides, value=float(images.min()))


def _together(tensors: Iterable[tuple[str, Tensor]], pixels: int) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors; small ones stacked with the others of their shape."""
    small: dict[tuple[int, ...], list[tuple[str, Tensor]]] = defaultdict(list)
    for name, tensor in tensors:
        if tensor.numel() >= SMALL * pixels:
            yield name, tensor.cpu()
        else:
            small[tuple(tensor.shape)].append((name, tensor))
    for group in small.values():
        if len(group) == 1:
            yield group[0][0], group[0][1].cpu()
        else:
            name = f"{len(group)} tensors of one shape, {group[0][0]} among them"
            yield name, torch.stack([tensor.cpu().float() for _, tensor in group])


def _correlated(rows: Tensor, album: _Album) -> tuple[set[int], int]:
    """Return the places of the images that one row (R, D) is like, and like no other; how many rows are like any."""
    found, like = set[int](), torch.zeros(len(rows), dtype=torch.bool)
    for standardise in (False, True)[: 1 + (len(rows) >= FEW_ROWS)]:
        unit = _unit(_standardised(rows) if standardise else rows)
        for form in album.forms(rows.shape[1], standardise=standardise):
            found |= _compared(unit, form, like)
    return found, int(like.sum())


def _compared(rows: Tensor, images: Tensor, like: Tensor) -> set[int]:
    """Return the places of the images (N, D) that one of the rows is like, and like no other; marks (R,) rows like any.

    Rows and images have length 1, or 0.
    """
    found = set[int]()
    step = max(1, AT_ONCE // len(images))
    for few, marks in zip(rows.split(step), like.split(step), strict=True):
        alike = (few @ images.T).abs_().clamp_(max=1 - 1e-6)
        best, place = alike.max(1)
        marks |= best >= LIKE
        likely = (best >= LIKE).nonzero().flatten()
        rest = alike[likely].scatter(1, place[likely, None], 0.0)
        apart = best[likely].atanh() - rest.amax(1).atanh()
        found |= set(place[likely[apart >= UNLIKE_OTHERS]].tolist())
    return found


def _unit(rows: Tensor) -> Tensor:
    """Return rows of mean 0 and length 1; those that are all but constant become 0."""
    centred = rows - rows.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > CONSTANT * length.amax(), centred / length, torch.zeros(()))


def _standardised(rows: Tensor) -> Tensor:
    """Return rows with each column's mean taken away and its deviation divided by; columns hardly vary count little."""
    deviation = rows.std(0)
    return (rows - rows.mean(0)) / (deviation + 0.1 * deviation.amax()).clamp(min=1e-12)


def _fingerprints(rows: Tensor) -> Sequence[bytes]:
    """Return what a row (R, D) has in common with its copies; empty for rows that are all but constant."""
    found: list[bytes] = []
    for few in rows.split(max(1, AT_ONCE // rows.shape[1])):
        numbers = few.float().nan_to_num(0.0, 0.0, 0.0)
        low, high = numbers.amin(1, keepdim=True), numbers.amax(1, keepdim=True)
        levels = ((numbers - low) / (high - low).clamp(min=1e-30) * 255 + 0.37).floor().to(torch.uint8).numpy()
        ordered = np.sort(levels, axis=1)
        distinct = (np.diff(ordered, axis=1) != 0).sum(1) + 1
        chosen = np.where((distinct >= LEVELS)[:, None], ordered, levels)
        found.extend(row.tobytes() if many > 1 else b"" for row, many in zip(chosen, distinct, strict=True))
    return found
