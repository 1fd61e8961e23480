"""The gate and its exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from audit.gate import Circumstances, decide
from audit.metrics import proportion_interval
from audit.records import Evidence, IfNotRun, Status, Verdict

PAGE = " ".join((Path(__file__).parents[3] / "docs/what-the-gate-claims.md").read_text(encoding="utf-8").split())
IMAGES, FLOOR = 500, 0.9
# the fewest images that must be right for the worse end of an exact interval to clear the floor
ENOUGH = next(right for right in range(IMAGES + 1) if proportion_interval(right, IMAGES, 0.95)[0] >= FLOOR)


def verdict(name, status):
    return Verdict(requirement_id=name, status=status, reason="because", evidence=Evidence())


def gate(statuses, **around):
    verdicts = [verdict(f"EVA-{index:03}", status) for index, status in enumerate(statuses, start=1)]
    what_if = {one.requirement_id: IfNotRun.BLOCK for one in verdicts} | around.pop("what_if", {})
    return decide(verdicts, what_if, Circumstances(**around))


@pytest.mark.parametrize(
    ("statuses", "around", "code", "words"),
    [
        pytest.param([Status.MET], {}, 0, "OPEN", id="all met"),
        pytest.param([Status.MET, Status.NOT_MET], {}, 1, "not met: EVA-002", id="one not met"),
        pytest.param([Status.INCONCLUSIVE, Status.NOT_MET], {}, 1, "not met: EVA-002", id="not met beats undecided"),
        pytest.param([Status.MET, Status.INCONCLUSIVE], {}, 10, "undecided: EVA-002", id="one inconclusive"),
        pytest.param([Status.MET, Status.NOT_RUN], {}, 10, "undecided: EVA-002", id="one not run, block"),
        pytest.param(
            [Status.MET, Status.NOT_RUN], {"what_if": {"EVA-002": IfNotRun.REPORT}}, 0, "1 not examined", id="report"
        ),
        pytest.param(
            [Status.NOT_RUN], {"what_if": {"EVA-001": IfNotRun.REPORT}}, 10, "no requirement was shown", id="silence"
        ),
        pytest.param([], {}, 10, "no requirement was shown", id="nothing at all"),
        pytest.param([Status.MET], {"crashes": ("scenarios-1 (boom)",)}, 10, "scenarios-1", id="an exhibit crashed"),
        pytest.param(
            [Status.MET, Status.NOT_MET], {"waived": frozenset({"EVA-002"})}, 0, "Waived: EVA-002", id="waived"
        ),
        pytest.param([Status.MET], {"waived": frozenset({"EVA-001"})}, 1, "delete the waiver", id="stale waiver"),
        pytest.param(
            [Status.MET, Status.INCONCLUSIVE],
            {"waived": frozenset({"EVA-002"})},
            10,
            "undecided",
            id="doubt not waived",
        ),
        pytest.param(
            [Status.MET, Status.INCONCLUSIVE], {"allow_incomplete": True}, 0, "INCOMPLETE, allowed", id="allowed"
        ),
        pytest.param([Status.NOT_MET], {"allow_incomplete": True}, 1, "CLOSED", id="not met is never allowed"),
        pytest.param([Status.MET], {"partial": True}, 0, "PARTIAL audit", id="partial"),
    ],
)
def test_gate(statuses, around, code, words):
    decided = gate(statuses, **around)
    assert decided.exit_code == code
    assert decided.open is (code == 0)
    assert words in decided.sentence


def opened(truths, audits=1000, seed=3):
    """Return the share of audits in which the gate opens.

    Args:
        truths: the true proportion that each requirement is about; each has the same floor, and is decided by the same
            images, so that none is independent of another.
        audits: how many.
        seed: of the images.
    """
    difficulty = np.random.default_rng(seed).random((audits, IMAGES))  # an image is right where it is easy enough
    met = [(difficulty < truth).sum(axis=1) >= ENOUGH for truth in truths]
    rows = zip(*met, strict=True)
    return np.mean([gate([Status.MET if one else Status.INCONCLUSIVE for one in row]).open for row in rows])


@pytest.mark.parametrize("others", [0, 1, 20])
def test_one_violated_requirement_opens_the_gate_at_most_as_often_as_its_own_interval_errs(others):
    """However many others there are, and though all are decided by the same images: an intersection-union test."""
    error = float(binom.sf(ENOUGH - 1, IMAGES, FLOOR))
    assert error <= 0.025
    assert "the chance that the gate opens is at most the error of that one requirement" in PAGE
    assert "| exact (Clopper-Pearson), two-sided | once, all samples | at most 2.5 % |" in PAGE
    assert opened([FLOOR, *[0.999] * others]) <= error + 0.01
    assert opened([FLOOR - 0.01, FLOOR, *[0.999] * others]) <= error + 0.01


def test_the_chance_of_closing_on_a_sound_model_grows_with_the_number_of_requirements_and_is_at_most_their_sum():
    truth = 0.94
    missed = float(binom.cdf(ENOUGH - 1, IMAGES, truth))
    generator, closed = np.random.default_rng(4), []
    for count in (1, 2, 4):
        right = generator.binomial(IMAGES, truth, size=(4000, count))
        closed.append(float((right < ENOUGH).any(axis=1).mean()))
        assert closed[-1] <= count * missed + 0.02
    assert "**The chances of closing on a sound model add up**" in PAGE
    assert closed == sorted(closed)
    assert closed[-1] > 2 * missed
