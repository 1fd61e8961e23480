"""Pure maths on counts and tensors: proportions with exact intervals, distances, projections. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.records import Norm

if TYPE_CHECKING:
    from torch import Tensor


def proportion_interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Return the exact two-sided interval of a proportion.

    Args:
        successes: 0..n.
        n: number of trials, at least 1.
        confidence: two-sided coverage, for example 0.95.

    Returns:
        Lower and upper end in [0, 1].

    Raises:
        ValueError: n is 0 or successes lies outside 0..n.

    Source: Clopper & Pearson 1934; the ends are quantiles of beta distributions.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"proportion: expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the one-sided exact p-value that the first of two paired conditions happens more often.

    Args:
        only_first: pairs in which only the first happened.
        only_second: pairs in which only the second did.

    Source: McNemar 1947, Psychometrika 12(2); exact form: a binomial test of the discordant pairs.
    """
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second, 0.5, alternative="greater").pvalue)


def fisher(first: int, of_first: int, second: int, of_second: int) -> float:
    """Return the one-sided exact p-value that something happens more often in the first of two samples.

    Args:
        first: of how many of the first sample it happened.
        of_first: size of the first sample.
        second: likewise.
        of_second: likewise.

    Source: Fisher 1935, The Design of Experiments, section 21.1; the tail of a hypergeometric distribution.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(first - 1, of_first + of_second, first + second, of_first))


def distances(x: Tensor, moved: Tensor, norm: Norm) -> Tensor:
    """Return the (N,) distances between two (N, ...) float tensors."""
    delta = (moved - x).flatten(1)
    if not len(delta):
        return delta.new_zeros(0)
    return delta.abs().amax(1) if norm is Norm.LINF else delta.norm(dim=1)


def project(x: Tensor, moved: Tensor, norm: Norm, eps: float, bounds: tuple[float, float]) -> Tensor:
    """Move points into the eps-ball around x, then into the pixel box; x must lie in the box.

    Clipping to the box afterwards cannot leave the ball, for it moves every coordinate towards x or not at all.

    Args:
        x: (N, C, H, W) originals.
        moved: what an attack returned, same shape.
        norm: of the ball.
        eps: radius, in the unit of the pixel range.
        bounds: least and greatest pixel value.

    Returns:
        (N, C, H, W), same dtype as x.
    """
    if norm is Norm.LINF:
        inside = moved.clamp(x - eps, x + eps)
    else:
        delta = (moved - x).flatten(1)
        size = delta.norm(dim=1, keepdim=True).clamp(min=1e-12)
        inside = x + (delta * (eps / size).clamp(max=1.0)).view_as(x)
    return inside.clamp(*bounds)
