"""Pure maths: known answers and properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.metrics import distances, fisher, project, proportion_interval
from audit.records import Norm


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Clopper & Pearson 1934: 0 and n have closed forms, (alpha/2)^(1/n) and its complement
        pytest.param(0, 10, 0.0, 1 - 0.025**0.1, id="none of ten"),
        pytest.param(10, 10, 0.025**0.1, 1.0, id="all of ten"),
        pytest.param(5, 10, 0.187086, 0.812914, id="half of ten"),
        pytest.param(950, 1000, 0.934604, 0.962652, id="950 of 1000"),
    ],
)
def test_interval_matches_the_table(successes, n, low, high):
    assert proportion_interval(successes, n, 0.95) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_interval_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        proportion_interval(successes, n, 0.95)


def test_fisher_knows_the_lady_who_tastes_tea():
    """Fisher 1935, chapter 2: all four cups right has a chance of 1 in 70, three of four one of 17 in 70."""
    assert fisher(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher(0, 4, 0, 4) == pytest.approx(1.0)


@given(st.integers(1, 300), st.data())
def test_interval_holds_its_point(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = proportion_interval(successes, n, 0.95)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize("norm", list(Norm))
@given(seed=st.integers(0, 1000), eps=st.floats(0.01, 2.0))
def test_projection_is_inside_ball_and_box_and_idempotent(norm, seed, eps):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(5, 1, 4, 4, generator=generator)
    moved = x + 3 * torch.randn(x.shape, generator=generator)
    once = project(x, moved, norm, eps, (0.0, 1.0))
    assert float(distances(x, once, norm).max()) <= eps + 1e-5
    assert float(once.min()) >= 0
    assert float(once.max()) <= 1
    torch.testing.assert_close(project(x, once, norm, eps, (0.0, 1.0)), once)


def test_distances_of_nothing_are_empty():
    assert distances(torch.zeros(0, 1, 2, 2), torch.zeros(0, 1, 2, 2), Norm.LINF).shape == (0,)
