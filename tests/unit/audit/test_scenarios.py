"""Exhibits: what the rows of the report's tables are counted from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from audit.exhibits import DefenceCheck
from audit.outcome import Outcome
from audit.policy import TargetSpec
from audit.records import Knowledge
from audit.scenarios import defence


def outcome(*broken):
    """Return what became of ten images, of which some were broken."""
    labels, after = np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.int64)
    after[list(broken)] = 1
    return Outcome({"labels": labels, "before": np.zeros(10, dtype=np.int64), "after": after}, {}, from_store=False)


class Laboratory:
    """Says what a transferred attack breaks, and what one through the defence."""

    def attacked(self, target, samples, attack, threat_model, seed, crafted_on=None):
        return outcome(0, 1, 2, 3, 4) if threat_model.knowledge is Knowledge.TRANSFER else outcome(3, 4, 5)

    def clean(self, target, samples):
        return outcome()


def test_the_figure_of_a_defence_is_the_worst_of_everything_tried_image_by_image():
    """An ensemble with 48 per cent under a transferred attack was shown as 62 per cent, attacked through."""
    spec = TargetSpec(wraps="honest", defence={"name": "jpeg"})
    session = SimpleNamespace(
        file=SimpleNamespace(policy=SimpleNamespace(targets={"defended": spec})),
        laboratory=Laboratory(),
        samples=lambda limit: range(10),
        target=lambda name: name,
    )
    found = defence(DefenceCheck(target="defended", attack={"name": "fgsm"}, eps=0.1), session).data
    assert (found["apparent"]["accuracy"], found["through"]["accuracy"]) == (0.5, 0.7)
    assert found["worst"]["accuracy"] == pytest.approx(0.4), "images 0 to 5 fell to one of the two"
    assert found["worst"]["low"] < 0.4 < found["worst"]["high"]
