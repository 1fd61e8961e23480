"""Whoever is told apart by a header is found out, and by which."""

from __future__ import annotations

import pytest

from audit.serving import disguises
from audit.serving.chance import Chance


def asked(*guilty, refused=()):
    """Return a server that answers who has one of the guilty headers, and refuses others for other reasons."""

    def ask(headers):
        names = {name for name, _ in headers}
        if names & set(refused):
            return "other"
        return "answered" if names & set(guilty) else "limited"

    return ask


MANY = [(f"X-{number}", "v") for number in range(50)]


@pytest.mark.parametrize("guilty", ["X-0", "X-17", "X-49"])
def test_the_one_header_is_named(guilty):
    assert disguises.responsible(MANY, asked(guilty)) == [(guilty, "v")]


def test_an_honest_server_costs_one_request():
    times = []
    assert disguises.responsible(MANY, lambda headers: times.append(headers) or "limited") == []
    assert len(times) == 1


def test_what_is_refused_for_another_reason_hides_nothing():
    assert disguises.responsible(MANY, asked("X-17", refused=["X-3"])) == [("X-17", "v")]
    assert disguises.responsible(MANY, asked(refused=["X-3"])) == []


def test_headers_that_only_work_together_are_named_together():
    def ask(headers):
        return "answered" if len(headers) == len(MANY) else "limited"

    assert disguises.responsible(MANY, ask) == MANY


def test_names_are_many_once_each_and_none_of_the_protocol():
    found = disguises.names("the header X-Odd-Thing, and x-odd-thing; Host", "X-Forwarded-For")
    lower = [name.lower() for name in found]
    assert len(lower) == len(set(lower)) > 300
    assert {"x-odd-thing", "x-tenant-id", "user-agent", "cookie", "x-forwarded-for"} <= set(lower)
    assert not set(lower) & {"host", "content-length", "transfer-encoding", "authorization", "origin", "expect"}


def test_a_bundle_fits_into_the_headers_of_a_request():
    chance = Chance(1)
    for value in disguises.values(chance):
        bundles = list(disguises.bundles(disguises.names(), value))
        assert max(map(len, bundles)) <= 80
        assert max(sum(len(name) + len(said) + 4 for name, said in one) for one in bundles) < 8000


def test_the_same_seed_gives_the_same_disguises():
    first, second = (list(disguises.special(Chance(3))) for _ in range(2))
    assert first == second
