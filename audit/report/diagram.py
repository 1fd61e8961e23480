"""The data-flow diagram of the register: where boxes, boundaries, lines and numbers stand. Pure; a template draws it.

Trust boundaries stand in columns, their nodes below each other. A flow between neighbours of one boundary is a straight
arrow; any other leaves its node at the side, runs along a track of its own between two columns (or below them all, if
it goes further) and enters the other node at the side. No two lines share a track and no two numbers a place, so that
nothing to be read lies on anything else. The same register gives the same picture, to the pixel.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from audit.report.geometry import Point, candidates, distance, segments, tip

WIDTH = 142  # of a node, in pixels, like everything here
LINE = 16  # height of a line of text
LETTERS = 18  # that surely fit into a node
TITLE_LETTERS = 22  # that surely fit into a boundary's head
PAD = 12  # between a boundary and its nodes
GAP = 46  # between two nodes, with room for a number
APART = 22  # two tracks
RADIUS = 9  # of a number's disc
ABREAST = 4  # arrows that fit between neighbours
PORT = 13  # least distance of two lines at one side of a node
MARGIN = 14


@dataclass(slots=True)
class Box:
    """A node: an external party, a process or a store. ``x`` and ``y`` are its upper left corner."""

    id: str
    kind: str
    lines: list[str]
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0
    width: float = WIDTH

    @property
    def middle(self) -> Point:
        """Return the centre."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(slots=True)
class Region:
    """A trust boundary around its nodes."""

    lines: list[str]
    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class Line:
    """A flow: its corners from source to target, the tip of its arrow, and the place of its number."""

    number: int
    source: str
    target: str
    points: list[Point]
    tip: list[Point]
    badge: Point


@dataclass(slots=True)
class Drawing:
    """Everything that the template draws."""

    width: float
    height: float
    boxes: list[Box]
    regions: list[Region]
    lines: list[Line]


@dataclass(slots=True)
class _Route:
    """How a flow runs: the channels (0 is left of the first column) that it uses, and whether it takes a lane below."""

    number: int
    source: Box
    target: Box
    channels: list[int]
    ports: list[Point] = field(default_factory=list)

    @property
    def straight(self) -> bool:
        return not self.channels

    @property
    def far(self) -> bool:
        return len(self.channels) == 2


def draw(diagram: Mapping[str, Any]) -> Drawing:
    """Return the drawing of the boundaries, nodes and flows that the report carries."""
    places = sorted({one["column"] for one in diagram["boundaries"]})
    columns: list[list[tuple[Any, list[Box]]]] = [[] for _ in places]
    for one in diagram["boundaries"]:
        inside = [_box(node) for node in diagram["nodes"] if node["boundary"] == one["id"]]
        columns[places.index(one["column"])].append((one, inside))
    column_of = {box.id: index for index, stack in enumerate(columns) for _, inside in stack for box in inside}
    boxes = {box.id: box for stack in columns for _, inside in stack for box in inside}
    neighbours = {frozenset((a.id, b.id)) for stack in columns for _, inside in stack for a, b in pairwise(inside)}
    routes = _routes(diagram["flows"], boxes, column_of, neighbours)
    for box in boxes.values():
        crowd = max(_crowd(routes, box, column_of, right) for right in (False, True))
        box.height = max(52.0, len(box.lines) * LINE + 22, crowd * PORT + PORT)
    lefts = _lefts(routes, len(columns))
    regions = [region for x, stack in zip(lefts, columns, strict=True) for region in _stacked(x, stack)]
    bottom = max((region.y + region.height for region in regions), default=0.0)
    _place_ports(routes, column_of)
    paths = _paths(routes, lefts, bottom, len(columns))
    lines = _numbered(routes, paths)
    far = sum(route.far for route in routes)
    right = lefts[-1] + WIDTH + 2 * PAD + _channel(routes, len(columns))
    return Drawing(right + MARGIN, bottom + far * APART + MARGIN, list(boxes.values()), regions, lines)


def _box(node: Mapping[str, Any]) -> Box:
    return Box(node["id"], node["kind"], textwrap.wrap(node["title"], LETTERS) or [""])


def _routes(
    flows: Sequence[Mapping[str, Any]],
    boxes: Mapping[str, Box],
    column_of: Mapping[str, int],
    neighbours: set[frozenset[str]],
) -> list[_Route]:
    """Choose channels: between two columns, or beside one, on the side that is less used so far."""
    used: dict[int, int] = {}
    abreast: dict[frozenset[str], int] = {}
    found = []
    for number, flow in enumerate(flows, start=1):
        ends = flow["source"], flow["target"]
        first, last = sorted(column_of[end] for end in ends)
        pair = frozenset(ends)
        if pair in neighbours and abreast.get(pair, 0) < ABREAST:
            abreast[pair] = abreast.get(pair, 0) + 1
            channels = []
        elif first == last:
            channels = [min((first + 1, first), key=lambda channel: used.get(channel, 0))]
        elif last == first + 1:
            channels = [last]
        else:
            channels = [first + 1, last]
            channels = channels if column_of[ends[0]] == first else channels[::-1]
        for channel in channels:
            used[channel] = used.get(channel, 0) + 1
        found.append(_Route(number, boxes[ends[0]], boxes[ends[1]], channels))
    return found


def _crowd(routes: Sequence[_Route], box: Box, column_of: Mapping[str, int], right: bool) -> int:
    channel = column_of[box.id] + (1 if right else 0)
    return sum((channel in route.channels) and box.id in (route.source.id, route.target.id) for route in routes)


def _channel(routes: Sequence[_Route], channel: int) -> float:
    """Return the width of a channel, with a free track at either side."""
    tracks = sum(route.channels.count(channel) for route in routes)
    return (tracks + 1) * APART if tracks else 0.0


def _lefts(routes: Sequence[_Route], columns: int) -> list[float]:
    lefts, x = [], float(MARGIN)
    for column in range(columns):
        x += _channel(routes, column) or (APART if column else 0.0)
        lefts.append(x)
        x += WIDTH + 2 * PAD
    return lefts


def _stacked(x: float, stack: Sequence[tuple[Any, list[Box]]]) -> Iterator[Region]:
    """Place the nodes of a column and yield the boundaries around them."""
    y = float(MARGIN)
    for boundary, inside in stack:
        title = textwrap.wrap(boundary["title"], TITLE_LETTERS) or [""]
        top, y = y, y + len(title) * LINE + PAD + 4
        for index, box in enumerate(inside):
            y += GAP if index else 0
            box.x, box.y = x + PAD, y
            y += box.height
        y += PAD
        yield Region(title, x, top, WIDTH + 2 * PAD, y - top)
        y += APART


def _place_ports(routes: Sequence[_Route], column_of: Mapping[str, int]) -> None:
    """Give every line its places at the sides of nodes; no two lines of a channel leave at the same height."""
    wanted: dict[tuple[int, str], list[tuple[float, int, int]]] = {}
    sides: dict[tuple[int, int], Point] = {}
    for route in routes:
        if route.straight:
            _place_straight(routes, route)
            continue
        for end, channel in ((0, route.channels[0]), (1, route.channels[-1])):
            box, other = (route.source, route.target)[:: 1 if end == 0 else -1]
            wanted.setdefault((channel, box.id), []).append((other.middle[1], route.number, end))
            right = channel > column_of[box.id]
            sides[route.number, end] = (box.x + (box.width if right else 0.0), box.y)
    heights: dict[int, list[float]] = {}
    by_number = {route.number: route for route in routes}
    placed: dict[tuple[int, int], Point] = {}
    for (channel, name), ends in wanted.items():
        route = by_number[ends[0][1]]
        box = route.source if route.source.id == name else route.target
        for index, (_, number, end) in enumerate(sorted(ends), start=1):
            y = box.y + box.height * index / (len(ends) + 1)
            while any(abs(y - taken) < 3 for taken in heights.get(channel, [])):
                y += 3
            heights.setdefault(channel, []).append(y)
            placed[number, end] = (sides[number, end][0], y)
    for route in routes:
        if not route.straight:
            route.ports = [placed[route.number, 0], placed[route.number, 1]]


def _place_straight(routes: Sequence[_Route], route: _Route) -> None:
    """Place an arrow between neighbours, beside the others between the same two."""
    ends = {route.source.id, route.target.id}
    same = [one.number for one in routes if one.straight and {one.source.id, one.target.id} == ends]
    x = route.source.x + WIDTH * (same.index(route.number) + 1) / (len(same) + 1)
    down = route.source.y < route.target.y
    start = route.source.y + (route.source.height if down else 0.0)
    route.ports = [(x, start), (x, route.target.y + (0.0 if down else route.target.height))]


def _paths(routes: Sequence[_Route], lefts: Sequence[float], bottom: float, columns: int) -> dict[int, list[Point]]:
    """Return the corners of every line: each has its own track in each channel, and its own lane below."""
    tracks: dict[tuple[int, int], float] = {}
    for channel in range(columns + 1):
        here = [route for route in routes if channel in route.channels]
        here.sort(key=lambda route: (sum(y for _, y in route.ports), route.number))
        start = lefts[channel] - _channel(routes, channel) if channel < columns else lefts[-1] + WIDTH + 2 * PAD
        for index, route in enumerate(here, start=1):
            tracks[route.number, channel] = start + index * APART
    lane, paths = bottom, {}
    for route in routes:
        first, last = route.ports
        if route.straight:
            paths[route.number] = [first, last]
            continue
        out, into = tracks[route.number, route.channels[0]], tracks[route.number, route.channels[-1]]
        corners = [(out, first[1])]
        if route.far:
            lane += APART
            corners += [(out, lane - APART / 2), (into, lane - APART / 2)]
        paths[route.number] = [first, *corners, (into, last[1]), last]
    return paths


def _numbered(routes: Sequence[_Route], paths: Mapping[int, list[Point]]) -> list[Line]:
    """Put a number on every line where it is farthest from all other lines and numbers."""
    lines: list[Line] = []
    for route in routes:
        points = paths[route.number]
        others = [pair for number, path in paths.items() if number != route.number for pair in segments(path)]
        taken = [line.badge for line in lines]

        def room(place: Point, others: Sequence[tuple[Point, Point]] = others, taken: Sequence[Point] = taken) -> float:
            to_lines = min((distance(place, *pair) for pair in others), default=APART)
            to_numbers = min((math.dist(place, other) / 2 for other in taken), default=APART)
            return min(to_lines, to_numbers, APART / 2)

        badge = max(candidates(points, RADIUS + 4), key=room)
        lines.append(Line(route.number, route.source.id, route.target.id, points, tip(points), badge))
    return lines
