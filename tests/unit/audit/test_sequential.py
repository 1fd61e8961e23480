"""Deciding early: the interval stays valid however often one looks, and clear cases decide soon."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
import pytest

from audit.judge import judge
from audit.metrics import proportion_interval
from audit.records import Bound, ControlResult, Evidence, Measurement, Metric, Status
from audit.sequential import ANYTIME, EXACT, anytime_interval, enough, interval, status, would_decide

FLOOR = Bound(metric=Metric.ROBUST_ACCURACY, at_least=0.8, confidence=0.95)
CEILING = Bound(metric=Metric.EXCESS_ASR, at_most=0.2, confidence=0.95)
LOOKS = tuple(range(100, 2001, 100))


def runs(p, seed, count=4000):
    """Return the successes (count, looks) of runs of a proportion p, counted at every look."""
    draws = np.random.default_rng(seed).binomial(100, p, size=(count, len(LOOKS)))
    return draws.cumsum(axis=1)


def is_met(bound, method, successes, n):
    low, high = interval(successes, n, bound.confidence, method)
    return low >= bound.limit if bound.at_least is not None else high <= bound.limit


def ever_met(successes, bound, method):
    """Return the share of runs that come out MET at any look; whether one does is monotone in its successes."""
    met = np.zeros(len(successes), dtype=bool)
    for place, n in enumerate(LOOKS):
        if bound.at_least is not None:
            met |= successes[:, place] >= bisect_left(range(n + 1), True, key=lambda s: is_met(bound, method, s, n))
        else:
            met |= successes[:, place] < bisect_left(range(n + 1), True, key=lambda s: not is_met(bound, method, s, n))
    return met.mean()


@pytest.mark.parametrize("p", [0.80, 0.795, 0.78])
def test_a_network_at_or_below_its_floor_passes_seldom_however_often_one_looks(p):
    assert ever_met(runs(p, seed=1), FLOOR, ANYTIME) < 1 - FLOOR.confidence


@pytest.mark.parametrize("p", [0.20, 0.21])
def test_a_network_at_or_above_its_ceiling_passes_seldom_however_often_one_looks(p):
    assert ever_met(runs(p, seed=2), CEILING, ANYTIME) < 1 - CEILING.confidence


def test_exact_intervals_looked_at_again_and_again_would_not_hold():
    """The control of the test above: without paying for the looks the error is exceeded."""
    assert ever_met(runs(0.80, seed=1), FLOOR, EXACT) > 1 - FLOOR.confidence


def test_the_interval_covers_the_truth_at_all_looks_together():
    for p in (0.02, 0.5, 0.93):
        successes, missed = runs(p, seed=3, count=1000), np.zeros(1000, dtype=bool)
        for place, n in enumerate(LOOKS):
            ends = {s: anytime_interval(s, n, 0.95) for s in set(successes[:, place].tolist())}
            missed |= np.array([not ends[s][0] <= p <= ends[s][1] for s in successes[:, place].tolist()])
        assert missed.mean() < 0.05


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 100), (100, 100), (92, 100), (1880, 2000)])
def test_the_interval_holds_the_estimate_and_is_wider_than_the_exact_one(successes, n):
    low, high = anytime_interval(successes, n, 0.95)
    exact_low, exact_high = proportion_interval(successes, n, 0.95)
    assert 0 <= low <= exact_low + 1e-9
    assert exact_low <= successes / n <= exact_high
    assert exact_high - 1e-9 <= high <= 1


def test_the_ends_solve_the_equation_of_the_mixture():
    """At either end the mixture is exactly 1 / alpha times as likely as the proportion there."""
    low, high = anytime_interval(90, 100, 0.95)
    mixture = math.lgamma(90.5) + math.lgamma(10.5) - math.lgamma(101) - 2 * math.lgamma(0.5) + math.lgamma(1)
    for p in (low, high):
        assert mixture - 90 * math.log(p) - 10 * math.log(1 - p) == pytest.approx(math.log(20))


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 3)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        anytime_interval(successes, n, 0.95)


def test_a_bad_result_stops_at_once_and_a_good_one_after_the_probes_have_enough():
    stop = enough(FLOOR, limit=2000)
    assert stop(0, 100)
    assert not stop(100, 100)
    assert stop(200, 200)
    assert enough(FLOOR, limit=150)(150, 150)
    assert not stop(165, 200)


def test_what_fell_to_a_probe_is_taken_off_before_deciding():
    assert enough(FLOOR, limit=2000)(190, 200)
    assert not enough(FLOOR, limit=2000, lost=20)(190, 200)


def test_one_does_not_stop_before_the_samples_that_fell_to_a_probe():
    """Counting them off too few samples once made the number of those standing negative."""
    stop = enough(FLOOR, limit=2000, lost=80, since=200)
    assert not stop(70, 100)
    assert stop(100, 200)


@pytest.mark.parametrize(
    ("true_share", "limit"),
    [pytest.param(0.0, 1000, id="undefended"), pytest.param(0.92, 1000, id="ten points above its floor of 0.82")],
)
def test_clear_cases_decide_on_a_fifth_of_the_samples(true_share, limit):
    bound = FLOOR.model_copy(update={"at_least": 0.82})
    n = next(n for n in range(100, limit + 1, 100) if enough(bound, limit)(round(true_share * n), n))
    assert n <= limit / 5


def test_an_undecided_verdict_says_how_many_samples_would_decide():
    needed = would_decide(FLOOR, 0.83, ANYTIME)
    assert status(FLOOR, round(0.83 * needed), needed) is Status.MET
    assert status(FLOOR, round(0.83 * 200), 200) is Status.INCONCLUSIVE
    assert would_decide(FLOOR, 0.8, ANYTIME) is None
    low, high = anytime_interval(166, 200, 0.95)
    measured = Measurement(
        metric=Metric.ROBUST_ACCURACY, value=0.83, low=low, high=high, n=200, interval=ANYTIME, would_decide=needed
    )
    control = ControlResult(name="c", status=Status.NOT_MET, detail="")
    verdict = judge("EVA-001", FLOOR, Evidence(measurement=measured, control=control))
    assert verdict.status is Status.INCONCLUSIVE
    assert f"about {needed:,} samples would probably decide" in verdict.reason
