"""Trigger inversion: the smallest patch of mask and pattern that turns images of other classes into one class.

A stamped image is ``(1 - m) * x + m * p``, with a mask ``m`` in [0, 1] over the pixels and a pattern ``p`` in the pixel
range; the loss is the cross-entropy towards the class plus lambda times the sum of the mask (Wang et al. 2019, "Neural
Cleanse", equations 2 and 3), with lambda raised while the trigger works and lowered while it does not (their section
V.A). All classes are optimised side by side, and those that cannot become the smallest any more leave half-way. What
counts is the smallest mask that turns 95 % of images that the search has not seen.

A backdoor shows as a class with a much smaller mask than any clean network has. How much smaller is for reference
networks to say; the outlier index within one network (their section IV.B) is unreliable for ten classes, and not used.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from audit.loading import Samples
from audit.measure import Laboratory, Tick
from audit.target import TorchTarget

WORKS = 0.95  # share of unseen images of other classes that a trigger must turn to count
FITTED, HELD_OUT = 1_000, 300  # images to search with; images of other classes to count on
BATCH = 16  # images a class and step
RATE = 0.1
MOMENTA = (0.5, 0.9)
FIRST_LAMBDA, RAISED, LOWERED = 1e-3, 1.1, 1.15
REMEMBERED = 0.8  # weight of the past in the running share of turned images
TURNS = 0.97  # running share from which on the trigger is made smaller
CANNOT_WIN = 2.0  # times the smallest mask half-way
DIGITS = 4  # of the sizes that are kept
NAMES = ("sizes", "rates", "masks", "patterns", "left")


@dataclass(frozen=True, slots=True)
class Inverted:
    """The smallest trigger found for each of K classes; size is infinite where none works.

    ``sizes`` (K,) sums of the masks in pixels; ``rates`` (K,) shares of unseen images turned; ``masks`` (K, H, W) and
    ``patterns`` (K, C, H, W) float32; ``left`` (K,) which classes left half-way, so that theirs may be too large.
    """

    sizes: NDArray[Any]
    rates: NDArray[Any]
    masks: NDArray[Any]
    patterns: NDArray[Any]
    left: NDArray[Any]

    @property
    def smallest(self) -> float:
        """Return the least size."""
        return float(self.sizes.min())

    @property
    def suspect(self) -> int:
        """Return the class that has it."""
        return int(self.sizes.argmin())


def inverted(laboratory: Laboratory, target: TorchTarget, samples: Samples, steps: int, seed: int) -> Inverted:
    """Return what :func:`invert` finds, from the store where nothing has changed."""

    def compute() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        found = invert(target, samples, steps, torch.Generator().manual_seed(seed), laboratory.tick)
        return {name: getattr(found, name) for name in NAMES}, {}

    settings = {"what": "inversion", "steps": steps, "seed": seed}
    arrays, _ = laboratory.kept(settings, __file__, target, samples, compute)
    return Inverted(*(arrays[name] for name in NAMES))


def invert(target: TorchTarget, samples: Samples, steps: int, generator: Generator, tick: Tick) -> Inverted:
    """Search for the smallest trigger of every class.

    Args:
        target: the network; its gradients are used.
        samples: clean images; half of them, at most ``FITTED``, to search with, the rest to count on.
        steps: of Adam, for each class.
        generator: draws starts and batches.
        tick: shown (class steps done, in all).
    """
    half = min(FITTED, len(samples) // 2)
    search = _Search(target, samples.at(slice(0, half)), generator)
    for step in range(steps):
        if step == steps // 2:
            search.leave()
        search.step()
        if step % 10 == 9:
            tick(step + 1, steps)
    return search.result(samples.at(slice(half, None)))


class _Search:
    """Masks, patterns and lambdas of all classes, and the triggers that worked on the way."""

    def __init__(self, target: TorchTarget, samples: Samples, generator: Generator) -> None:
        self._target, self._generator = target, generator
        self._images = samples.images.to(target.device)
        classes, (channels, height, width) = target.classes, samples.images.shape[1:]
        self._rows = [torch.nonzero(samples.labels != one).flatten() for one in range(classes)]
        start = 0.1 * torch.randn(classes, 1 + channels, height, width, generator=generator)
        start[:, 0] -= 2.0
        self._raw = start.to(target.device).requires_grad_()
        self._optimiser = torch.optim.Adam([self._raw], lr=RATE, betas=MOMENTA)
        self._weight = torch.full((classes,), FIRST_LAMBDA, device=target.device)
        self._turned = torch.zeros(classes, device=target.device)
        self._active = list(range(classes))
        self._found: list[list[tuple[float, int, Tensor]]] = [[] for _ in range(classes)]
        self._number = 0

    def step(self) -> None:
        """Move all active triggers once."""
        active = torch.tensor(self._active, device=self._target.device)
        raw = self._raw[active]
        mask, pattern = self._shown(raw)
        rows = torch.cat([self._drawn(one) for one in self._active])
        x = self._images[rows.to(self._target.device)].view(len(active), BATCH, *self._images.shape[1:])
        stamped = ((1 - mask[:, None]) * x + mask[:, None] * pattern[:, None]).flatten(0, 1)
        aims = active.repeat_interleave(BATCH)
        logits = self._target.step_logits(stamped)
        share = (logits.argmax(1) == aims).float().view(-1, BATCH).mean(1)
        self._turned[active] = REMEMBERED * self._turned[active] + (1 - REMEMBERED) * share
        sizes = mask.flatten(1).sum(1)
        missed = functional.cross_entropy(logits, aims, reduction="none").view(-1, BATCH).mean(1)
        loss = (missed + self._weight[active] * sizes).sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._remember(sizes.detach().tolist(), raw.detach())
        self._optimiser.step()
        works = self._turned[active] > TURNS
        self._weight[active] = torch.where(works, self._weight[active] * RAISED, self._weight[active] / LOWERED)

    def leave(self) -> None:
        """Let the classes go whose mask is far larger than the smallest that works by now."""
        least = {one: self._found[one][0][0] if self._found[one] else math.inf for one in self._active}
        smallest = min(least.values())
        if math.isfinite(smallest):
            self._active = [one for one in self._active if least[one] <= CANNOT_WIN * smallest]

    def result(self, unseen: Samples) -> Inverted:
        """Return for each class the smallest trigger that also works on unseen images."""
        classes, (channels, height, width) = len(self._found), self._images.shape[1:]
        sizes, rates = torch.full((classes,), math.inf), torch.zeros(classes)
        masks, patterns = torch.zeros(classes, height, width), torch.zeros(classes, channels, height, width)
        for one, found in enumerate(self._found):
            others = unseen.where(unseen.labels.ne(one)).images[:HELD_OUT]
            low, high = 0, len(found)  # sorted by size, and larger masks turn more: bisection
            while low < high:
                middle = (low + high) // 2
                mask, pattern = (part[0] for part in self._shown(found[middle][2][None]))
                turned = self._rate(others, mask, pattern, one)
                if turned >= WORKS:
                    sizes[one], rates[one] = round(found[middle][0], DIGITS), turned
                    masks[one], patterns[one] = mask[0].cpu(), pattern.cpu()
                    high = middle
                else:
                    low = middle + 1
        left = torch.tensor([one not in self._active for one in range(classes)])
        return Inverted(*(part.numpy() for part in (sizes, rates, masks, patterns, left)))

    def _rate(self, images: Tensor, mask: Tensor, pattern: Tensor, aim: int) -> float:
        low, high = self._target.bounds
        stamped = ((1 - mask.cpu()) * images + mask.cpu() * pattern.cpu()).clamp(low, high)
        return float((self._target.predict(stamped) == aim).float().mean())

    def _drawn(self, one: int) -> Tensor:
        rows = self._rows[one]
        return rows[torch.randint(len(rows), (BATCH,), generator=self._generator)]

    def _shown(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks (K, 1, H, W) in [0, 1] and patterns (K, C, H, W) in the pixel range."""
        low, high = self._target.bounds
        squashed = torch.sigmoid(raw)
        return squashed[:, :1], low + (high - low) * squashed[:, 1:]

    def _remember(self, sizes: list[float], raw: Tensor) -> None:
        self._number += 1
        for place, one in enumerate(self._active):
            if float(self._turned[one]) > WORKS:
                insort(self._found[one], (sizes[place], self._number, raw[place].clone()))
