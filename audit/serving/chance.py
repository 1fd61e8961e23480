"""Choices from a seed: what is sent varies, and is the same in every run. Nothing here is a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Chance:
    """Random choices from a seed."""

    def __init__(self, seed: int) -> None:
        """Begin at the seed."""
        self._numbers = np.random.default_rng(seed)

    def among(self, things: Sequence[Any]) -> Any:
        """Return one of several things."""
        return things[self.below(len(things))]

    def below(self, end: int, begin: int = 0) -> int:
        """Return a whole number from ``begin`` on, below ``end``."""
        return int(self._numbers.integers(begin, end))

    def share(self) -> float:
        """Return a number from 0 on, below 1."""
        return float(self._numbers.random())

    def content(self, length: int) -> bytes:
        """Return so many bytes."""
        return self._numbers.bytes(length)

    def between(self, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        return float(self._numbers.uniform(low, high))

    def digits(self, length: int) -> str:
        """Return so many hexadecimal digits."""
        return "".join(f"{number:x}" for number in self._numbers.integers(0, 16, length))

    def distinct(self, times: int, begin: int, end: int) -> list[int]:
        """Return so many different whole numbers from ``begin`` on, below ``end``."""
        found: dict[int, None] = {}
        while len(found) < times:
            found[self.below(end, begin)] = None
        return list(found)

    def shuffled(self, things: Sequence[Any]) -> list[Any]:
        """Return things in another order."""
        return [things[int(place)] for place in self._numbers.permutation(len(things))]
