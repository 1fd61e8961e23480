"""Waivers: a bad one is a policy error, and none lasts longer than a year."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from audit.errors import PolicyError
from audit.policy import load_policy
from audit.waivers import load_waivers

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "policies/digits.yaml"
TODAY = date(2026, 6, 1)
WAIVER = "  - {{id: {id}, reason: a reason long enough, owner: someone, expires: {expires}}}\n"


@pytest.fixture
def policy():
    return load_policy(SHIPPED, ROOT).policy


@pytest.fixture
def file(tmp_path):
    """Give a function that writes waivers of (id, last day)."""

    def write(*lines):
        path = tmp_path / "waivers.yaml"
        text = "".join(WAIVER.format(id=name, expires=day) for name, day in lines)
        path.write_text(f"waivers:\n{text}", encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param([("EVA-002", "2026-01-01")], "EVA-002 expired on 2026-01-01", id="expired"),
        pytest.param([("EVA-999", "2027-01-01")], "expected a requirement of the policy", id="unknown id"),
        pytest.param([("EVA-002", "2027-01-01")] * 2, "every id once", id="twice"),
        pytest.param([("EVA-002", "soon")], r"waivers\[0\].expires: .*\(got 'soon'\)", id="no date"),
    ],
)
def test_bad_waiver_is_a_policy_error(file, policy, lines, message):
    with pytest.raises(PolicyError, match=message):
        load_waivers(file(*lines), policy, TODAY)


def test_good_waiver_is_read_and_no_file_means_none(file, policy, tmp_path):
    assert load_waivers(tmp_path / "none.yaml", policy) == ()
    assert load_waivers(file(("EVA-002", "2026-06-01")), policy, TODAY)[0].id == "EVA-002"


@pytest.mark.parametrize("day", ["2027-06-03", "9999-12-31"])
def test_waiver_until_9999_is_a_policy_error_that_says_the_latest_day(file, policy, day):
    message = r"waivers\[0\]\.expires: a waiver lasts at most 366 days, so until 2027-06-02 at the latest \(got " + day
    with pytest.raises(PolicyError, match=message):
        load_waivers(file(("EVA-002", day)), policy, TODAY)


def test_waiver_for_366_days_is_read(file, policy):
    assert load_waivers(file(("EVA-002", "2027-06-02")), policy, TODAY)
