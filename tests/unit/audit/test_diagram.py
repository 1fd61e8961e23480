"""The drawing of data flows: nothing to be read lies on anything else, whatever register it is drawn from."""

from __future__ import annotations

import itertools
import math
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.register import Seen, matrix, read_register
from audit.report.diagram import LINE, RADIUS, WIDTH, draw
from audit.report.geometry import segments

ROOT = Path(__file__).parents[3]
LETTER = 8.5  # pixels that a letter of 13 pixels may take
SHIPPED = matrix(read_register(ROOT / "policies/stride.yaml"), Seen({}, {}), date(2026, 11, 21))["diagram"]


@st.composite
def diagrams(draws):
    columns = draws(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    boundaries = [{"id": f"b{n}", "title": f"Boundary {n}", "column": column} for n, column in enumerate(columns)]
    homes = draws(st.lists(st.sampled_from([one["id"] for one in boundaries]), min_size=2, max_size=10))
    kinds = draws(st.lists(st.sampled_from(["party", "process", "store"]), min_size=len(homes), max_size=len(homes)))
    nodes = [
        {"id": f"n{n}", "title": f"Node number {n} of a register", "kind": kind, "boundary": home}
        for n, (home, kind) in enumerate(zip(homes, kinds, strict=True))
    ]
    pairs = list(itertools.permutations([one["id"] for one in nodes], 2))
    flows = draws(st.lists(st.sampled_from(pairs), max_size=20))
    return {
        "boundaries": boundaries,
        "nodes": nodes,
        "flows": [{"source": a, "target": b, "data": "data"} for a, b in flows],
    }


def apart(one, other):
    """Tell whether two rectangles (x, y, width, height) do not touch."""
    return (
        one[0] + one[2] < other[0]
        or other[0] + other[2] < one[0]
        or one[1] + one[3] < other[1]
        or other[1] + other[3] < one[1]
    )


def frame(one):
    return one.x, one.y, one.width, one.height


def stretch(a, b):
    return min(a[0], b[0]), min(a[1], b[1]), abs(a[0] - b[0]), abs(a[1] - b[1])


def disc(line):
    return line.badge[0] - RADIUS, line.badge[1] - RADIUS, 2 * RADIUS, 2 * RADIUS


def check(drawing):
    for one, other in itertools.combinations(drawing.regions, 2):
        assert apart(frame(one), frame(other))
    for box in drawing.boxes:
        assert sum(not apart(frame(box), frame(region)) for region in drawing.regions) == 1
        assert len(box.lines) * LINE < box.height
        assert max(map(len, box.lines)) * LETTER < WIDTH + 12
    for one, other in itertools.combinations(drawing.lines, 2):
        assert math.dist(one.badge, other.badge) >= 2 * RADIUS
        for mine, theirs in itertools.product(segments(one.points), segments(other.points)):
            assert not along(mine, theirs), (one.number, other.number)
    ends = {box.id: frame(box) for box in drawing.boxes}
    for line in drawing.lines:
        assert min(map(min, line.points)) > 0
        assert max(x for x, _ in [*line.points, line.badge]) < drawing.width
        assert max(y for _, y in [*line.points, line.badge]) < drawing.height
        for name, end in ((line.source, line.points[0]), (line.target, line.points[-1])):
            assert not apart(ends[name], (*end, 0, 0))
        for box in drawing.boxes:
            assert apart(frame(box), disc(line))
            if box.id not in (line.source, line.target):
                assert all(apart(frame(box), stretch(*one)) for one in segments(line.points))


def along(one, other):
    """Tell whether two stretches lie on each other for more than a point."""
    for axis in (0, 1):
        if len({point[axis] for point in (*one, *other)}) == 1:
            mine, theirs = (sorted(point[1 - axis] for point in pair) for pair in (one, other))
            return min(mine[1], theirs[1]) - max(mine[0], theirs[0]) > 0
    return False


def test_shipped_register_is_drawn_without_overlap():
    drawing = draw(SHIPPED)
    check(drawing)
    assert len(drawing.boxes) == len(SHIPPED["nodes"])
    assert [line.number for line in drawing.lines] == list(range(1, len(SHIPPED["flows"]) + 1))


def test_numbers_of_the_shipped_register_lie_on_no_other_line():
    drawing = draw(SHIPPED)
    for one, other in itertools.permutations(drawing.lines, 2):
        assert all(apart(disc(one), stretch(*pair)) for pair in segments(other.points)), (one.number, other.number)


def test_every_letter_of_a_boundary_fits_into_it():
    for region in draw(SHIPPED).regions:
        assert max(map(len, region.lines)) * LETTER * 12 / 13 < region.width


@given(diagrams())
def test_any_register_is_drawn_without_overlap(diagram):
    check(draw(diagram))


def test_same_register_gives_the_same_drawing():
    assert draw(SHIPPED) == draw(SHIPPED)


@pytest.mark.parametrize(
    ("columns", "corners"),
    [
        pytest.param((0, 1), 4, id="next column: over one track"),
        pytest.param((0, 0), 2, id="neighbours: straight"),
        pytest.param((0, 2), 6, id="further: by a lane below"),
        pytest.param((2, 0), 6, id="further, and back"),
    ],
)
def test_flow_takes_the_way_for_its_distance(columns, corners):
    diagram = {
        "boundaries": [{"id": f"b{column}", "title": "Boundary", "column": column} for column in range(3)],
        "nodes": [
            {"id": name, "title": name, "kind": "process", "boundary": f"b{column}"}
            for name, column in (*zip("ab", columns, strict=True), ("c", 1))
        ],
        "flows": [{"source": "a", "target": "b", "data": "data"}],
    }
    drawing = draw(diagram)
    check(drawing)
    (line,) = drawing.lines
    assert len(line.points) == corners
    assert line.tip[0] == line.points[-1]
