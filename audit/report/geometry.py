"""Paths of straight stretches in the plane, in pixels, y pointing down. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

Point = tuple[float, float]


def segments(path: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    """Yield the stretches of a path."""
    return pairwise(path)


def candidates(path: Sequence[Point], from_ends: float) -> list[Point]:
    """Return places along a path, its longest stretch first, from the middle to so far from the ends of a stretch."""
    found = []
    for a, b in sorted(segments(path), key=lambda pair: -math.dist(*pair)):
        length = math.dist(a, b)
        steps = int((length / 2 - from_ends) // 3)
        for step in range(max(0, steps) + 1):
            for sign in (1, -1):
                share = 0.5 + sign * step * 3 / length if length else 0.5
                found.append((a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share))
    return found


def distance(place: Point, a: Point, b: Point) -> float:
    """Return the distance of a point from a stretch."""
    length = math.dist(a, b) ** 2
    if not length:
        return math.dist(place, a)
    share = ((place[0] - a[0]) * (b[0] - a[0]) + (place[1] - a[1]) * (b[1] - a[1])) / length
    share = min(1.0, max(0.0, share))
    return math.dist(place, (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))


def tip(path: Sequence[Point]) -> list[Point]:
    """Return the corners of an arrow's head at the end of a path."""
    (x0, y0), (x, y) = next(((a, b) for a, b in reversed(list(segments(path))) if a != b), (path[0], path[-1]))
    length = math.dist((x0, y0), (x, y)) or 1.0
    along, across = ((x - x0) / length, (y - y0) / length), ((y - y0) / length, (x0 - x) / length)
    back = (x - 8 * along[0], y - 8 * along[1])
    return [
        (x, y),
        (back[0] + 4 * across[0], back[1] + 4 * across[1]),
        (back[0] - 4 * across[0], back[1] - 4 * across[1]),
    ]
