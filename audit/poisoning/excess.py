"""What a trigger does to a network beyond what it does to others: rates, and their difference with its ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from audit.outcome import Outcome, Rate
from audit.poisoning.triggers import Trigger


@dataclass(frozen=True, slots=True)
class Excess:
    """A trigger's attack success rates on a network, one a class, and all those on what it is compared with, if any."""

    trigger: Trigger
    rates: tuple[Rate, ...]
    compared: tuple[Rate, ...]

    @property
    def worst(self) -> Rate:
        """Return the rate of the target class that the trigger causes most."""
        return max(self.rates, key=lambda rate: rate.value)

    @property
    def yardstick(self) -> Rate:
        """Return the highest rate, for any class, on what the target is compared with; none, compared with nothing."""
        nothing = replace(self.worst, network="nothing", hits=0)
        return max(self.compared, key=lambda rate: rate.value, default=nothing)

    @property
    def value(self) -> float:
        """Return by how much the highest rate exceeds the yardstick; may be negative."""
        return self.worst.value - self.yardstick.value

    def interval(self, confidence: float, factor: float = 1.0) -> tuple[float, float]:
        """Return the ends of the excess of the highest rate over the highest compared one.

        The highest of several rates lies between the highest of their lower ends and the highest of their upper ends.

        Args:
            confidence: of each single interval.
            factor: as if there were so many times the samples.
        """
        ends = [rate.interval(confidence, factor) for rate in self.rates]
        others = [rate.interval(confidence, factor) for rate in self.compared]
        low, high = max(low for low, _ in ends), max(high for _, high in ends)
        return low - max((high for _, high in others), default=0.0), high - max((low for low, _ in others), default=0.0)

    @property
    def alone(self) -> Self:
        """Return the rates themselves, compared with nothing."""
        return replace(self, compared=())


@dataclass(frozen=True, slots=True)
class ShownExcess(Excess):
    """The same on a target, with what it said of every image."""

    outcome: Outcome
