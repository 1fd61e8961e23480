"""Folding: a flood of refusals costs a handful of lines, and every refusal is counted in one of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from model_under_test.serve import folding
from model_under_test.serve.folding import OTHERS, Folded, Folding


def test_the_first_refusals_of_a_client_have_their_own_line_and_the_others_share_one():
    found = Folding(each=3, every=10.0)
    assert [found.alone("a", 429, now) for now in (0, 1, 2, 3, 4)] == [True, True, True, False, False]
    assert found.alone("b", 429, 4)
    assert not found.alone("a", 401, 5)
    assert found.due(12.9) == []
    assert found.due(13) == [Folded("a", 429, 2)]
    assert found.due(13) == []
    assert found.due(15) == [Folded("a", 401, 1)]


def test_a_client_has_one_line_in_ten_seconds_for_what_is_folded():
    found, written = Folding(each=1, every=10.0), []
    for tick in range(50 * 2):
        found.alone("a", 429, tick / 2)
        written += [(tick / 2, one.count) for one in found.due(tick / 2)]
    assert written == [(10.5, 21), (21.0, 21), (31.5, 21), (42.0, 21)]


def test_after_a_minute_a_client_begins_anew():
    found = Folding(each=2, every=10.0)
    assert [found.alone("a", 429, now) for now in (0, 1, 59.9, 60, 61, 62)] == [True, True, False, True, True, False]


def test_at_the_end_nothing_is_left():
    found = Folding(each=0)
    found.alone("a", 429, 0)
    found.alone("b", 503, 1)
    assert found.due(1, all=True) == [Folded("a", 429, 1), Folded("b", 503, 1)]
    assert found.due(1_000) == []


def test_clients_beyond_those_that_are_kept_are_folded_together(monkeypatch):
    monkeypatch.setattr(folding, "MOST_CLIENTS", 5)
    found = Folding(each=1)
    assert [found.alone(f"10.0.0.{number}", 429, 0) for number in range(5)] == [True] * 5
    assert [found.alone(f"10.0.1.{number}", 429, 0) for number in range(5)] == [True] + [False] * 4
    assert not found.alone("10.0.0.3", 429, 1)
    assert found.due(20) == [Folded(OTHERS, 429, 4), Folded("10.0.0.3", 429, 1)]
    assert found.alone("10.0.1.4", 429, 60), "the minutes of the others are over"


@pytest.mark.parametrize("seed", range(3))
def test_every_refusal_is_in_one_line_and_memory_is_bounded(monkeypatch, seed):
    monkeypatch.setattr(folding, "MOST_CLIENTS", 20)
    chance, found, now, asked, told = np.random.default_rng(seed), Folding(each=2), 0.0, Counter(), Counter()
    for _ in range(5_000):
        now += chance.random()
        status = int(chance.choice([401, 429]))
        asked[status] += 1
        told[status] += found.alone(f"client-{chance.integers(200)}", status, now)
        assert len(found._clients) <= 21
        assert len(found._waiting) <= 22
        for one in found.due(now) if chance.random() < 0.01 else []:
            told[one.status] += one.count
    for one in found.due(now, all=True):
        told[one.status] += one.count
    assert told == asked
