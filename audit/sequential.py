"""When to stop looking: intervals that stay valid however often, and whenever, one looks. Pure.

The samples come in a fixed random order, so their results are exchangeable; for the population they were drawn from
they are independent trials of one proportion p. Under p the ratio

    B(a + s, b + n - s) / B(a, b)  :  p^s (1 - p)^(n - s)

is a non-negative martingale with mean one, whatever a and b (the likelihood under a Beta(a, b) mixture over the
likelihood under p). It ever exceeds 1 / alpha with probability at most alpha (Ville's inequality). The proportions at
which it has not are therefore a confidence sequence: valid at all n at once, for any rule of stopping, and also when a
run is continued because its result was not liked.

Sources: Robbins 1970, Ann. Math. Statist. 41(5), section 1; Howard, Ramdas, McAuliffe & Sekhon 2021, arXiv:1810.08240,
section 3 (mixtures). The mixture is a = b = 1/2 (Krichevsky & Trofimov 1981), close to the shortest everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from audit.judge import better_end, worse_end
from audit.metrics import proportion_interval
from audit.records import Bound, Status

A = B = 0.5
EXACT = "exact (Clopper-Pearson)"
ANYTIME = "anytime-valid (beta-binomial mixture)"
BELIEVED_FROM = 200  # samples before a good result may end the search: as many as the health probes compare
LARGEST = 10_000_000


@lru_cache(maxsize=4096)
def anytime_interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval of a proportion that is valid at every n simultaneously.

    Args:
        successes: 0..n.
        n: number of trials, at least 1.
        confidence: two-sided, over all n together.

    Raises:
        ValueError: n is 0 or successes lies outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"proportion: expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    from scipy.optimize import brentq
    from scipy.special import betaln

    failures = n - successes
    mixture = float(betaln(A + successes, B + failures) - betaln(A, B))

    def excess(p: float) -> float:
        fixed = (successes * math.log(p) if successes else 0.0) + (failures * math.log1p(-p) if failures else 0.0)
        return mixture - fixed + math.log1p(-confidence)

    centre, tiny = successes / n, 1e-15
    low = float(brentq(excess, tiny, centre)) if successes else 0.0
    high = float(brentq(excess, centre, 1 - tiny)) if failures else 1.0
    return low, high


def interval(successes: int, n: int, confidence: float, method: str) -> tuple[float, float]:
    """Return the interval by one of the two methods, ``EXACT`` for a single look and ``ANYTIME`` for many."""
    return (anytime_interval if method == ANYTIME else proportion_interval)(successes, n, confidence)


def status(bound: Bound, successes: int, n: int) -> Status:
    """Return what the anytime-valid interval says about a bound on a share of successes."""
    ends = anytime_interval(successes, n, bound.confidence)
    if worse_end(bound, *ends) >= 0:
        return Status.MET
    return Status.NOT_MET if better_end(bound, *ends) < 0 else Status.INCONCLUSIVE


def enough(bound: Bound, limit: int, lost: int = 0, since: int = 0) -> Callable[[int, int], bool]:
    """Return the rule (standing, n) -> whether to stop.

    A bad result stops at once. A good one only after ``BELIEVED_FROM`` samples, which the health probes need.

    Args:
        bound: on the share standing.
        limit: upper limit of samples.
        lost: samples that stood under the attack and fell to a probe, to be taken off.
        since: samples below which not to stop, because the lost ones are among them.
    """

    def stop(standing: int, n: int) -> bool:
        if n < since:
            return False
        found = status(bound, standing - lost, n)
        return found is Status.NOT_MET or (found is Status.MET and n >= min(BELIEVED_FROM, limit))

    return stop


def would_decide(bound: Bound, share: float, method: str) -> int | None:
    """Return about how many samples would decide if the share stayed as it is; None if none would."""
    n = 50
    while n <= LARGEST:
        ends = interval(round(share * n), n, bound.confidence, method)
        if worse_end(bound, *ends) >= 0 or better_end(bound, *ends) < 0:
            return n
        n = math.ceil(n * 1.1)
    return None
