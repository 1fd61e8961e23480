"""Data that were altered in memory while an audit ran are noticed, and nothing measured on them is believed."""

from __future__ import annotations

import pytest

from audit import plugin
from audit.isolation.host import InThisProcess
from audit.witness import Witness


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_split_that_was_written_into_is_named(samples, part):
    witness = Witness()
    whole, few = witness.watch("audit split", samples), witness.watch("the first", samples.subset(10))
    assert witness.altered() == []
    getattr(few, part)[3] += 1
    assert witness.altered() == ["the first"]
    getattr(whole, part)[0] += 1
    assert witness.altered() == ["audit split", "the first"]


VANDAL = """
import gc
import torch
from tests.unit import toy

class Vandal(type(toy.honest())):
    def forward(self, x):
        for one in gc.get_objects():
            if type(one) is torch.Tensor and one.shape == (400, 1, 6, 6):
                one[200:].add_(1e-6)
        return super().forward(x)

def network():
    return Vandal(toy.halves())
"""


@pytest.fixture
def vandal(toy_audit):
    """Give an audit of a network that writes into all images that it finds in memory."""
    toy_audit.write("vandal.py", VANDAL)
    toy_audit.policy["targets"]["vandal"] = {"factory": "vandal.py:network"}
    return toy_audit


def test_a_network_finds_no_images_of_the_harness_to_write_into(vandal):
    assert vandal.audit("--target", "vandal", "--only", "PERF-001", "--allow-incomplete").ret == 0
    assert not any("altered" in note for note in vandal.report()["notes"])


def test_a_network_that_writes_into_the_harness_images_never_ends_green(vandal, monkeypatch):
    monkeypatch.setattr(plugin, "host", InThisProcess)  # as on systems where no process can be forked
    toy_audit = vandal
    result = toy_audit.audit("--target", "vandal", "--only", "PERF-001", "--allow-incomplete")
    assert result.ret == 10
    verdict = toy_audit.verdicts()["PERF-001"]
    assert verdict["status"] == "INCONCLUSIVE"
    assert (
        "images or labels in memory were altered during the run (audit split, audit split, 400 images in order)"
        in verdict["reason"]
    )
    assert any("writes where it must not, so nothing" in note for note in toy_audit.report()["notes"])
