"""Excess attack success rate: planted backdoors are found, and marks that move every network are not judged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from audit.judge import compare
from audit.loading import Samples
from audit.outcome import Rate
from audit.poisoning import catalogue, clean_networks
from audit.poisoning.catalogue import backdoor
from audit.poisoning.excess import Excess
from audit.poisoning.references import Reference, prepare
from audit.poisoning.triggers import Pixel
from audit.records import Status
from audit.requirements import TriggerRequirement
from tests.unit import toy
from tests.unit.audit.conftest import requirement as stated

CORNER = {"kind": "pixel", "row": 5, "column": 5}
ELSEWHERE = {"kind": "pixel", "row": 3, "column": 1}
BLANK = {"kind": "blend", "alpha": 1.0}


class Session:
    """The part of an audit session that the examination asks."""

    def __init__(self, laboratory, make_target, target, references, fitting=None):
        split = toy.data(offline=True).audit
        self.laboratory, self._samples = laboratory, Samples(split.images, split.labels)
        self._target = make_target(target(), target.__name__)
        self._control = make_target(toy.backdoored(), "backdoored")
        made = [make_target(network(), f"{network.__name__} {i}") for i, network in enumerate(references)]
        known = [Reference(one.name, one.classes, laboratory, lambda one=one: one) for one in made]
        self.trainer = SimpleNamespace(references=lambda named: known[: named.count], prepare=prepare)
        self.poisonings = []
        self.dataset = SimpleNamespace(fitting=self._samples if fitting is None else fitting)

    def announce(self, text):
        pass

    def samples(self, limit):
        return self._samples

    def target(self, name=None):
        return self._control if name == "backdoored" else self._target


@pytest.fixture
def examine(laboratory, make_target):
    """Give a function that examines a toy network; returns the evidence."""

    def examined(target, *references, triggers=(CORNER,), fitting=None, **rest):
        if references:
            rest["reference_networks"] = {"target": "honest", "count": len(references)}
        requirement = TriggerRequirement.model_validate(
            stated(
                "POI-001",
                "poisoning",
                {"metric": "excess_attack_success_rate", "at_most": 0.05},
                check="triggers",
                triggers=list(triggers),
                control={"target": "backdoored"},
                **rest,
            )
        )
        evidence, outcome = backdoor(requirement, Session(laboratory, make_target, target, references, fitting))
        status = compare(requirement.bound, evidence.measurement) if evidence.measurement else None
        return SimpleNamespace(evidence=evidence, status=status, outcome=outcome)

    return examined


@pytest.mark.parametrize("references", [(), (toy.honest, toy.honest)], ids=["placebos", "references"])
def test_a_planted_backdoor_is_found_and_a_clean_network_is_not_blamed(examine, references):
    bad, good = examine(toy.backdoored, *references), examine(toy.honest, *references)
    assert (bad.status, good.status) == (Status.NOT_MET, Status.MET)
    assert bad.evidence.measurement.value == 1.0
    assert bad.evidence.measurement.settings["target_class"] == 1
    assert bad.evidence.measurement.n == 200  # images of the other class
    assert all(probe.passed for probe in (*bad.evidence.probes, *good.evidence.probes))
    assert bad.evidence.control.status is Status.NOT_MET


def test_the_worst_of_several_triggers_is_judged_and_every_one_shown(examine):
    found = examine(toy.backdoored, toy.honest, toy.honest, triggers=(ELSEWHERE, CORNER))
    assert found.status is Status.NOT_MET
    assert found.evidence.measurement.settings["trigger"] == Pixel(row=5, column=5).text
    table = found.evidence.tables["triggers"]
    assert [row["attack_success_rate"] for row in table] == [0.0, 1.0]
    assert (found.outcome.after == 1).all()


def test_a_mark_that_moves_the_references_too_is_not_judged(examine):
    found = examine(toy.honest, toy.honest, toy.honest, triggers=(CORNER, BLANK))
    assert [row["judged"] for row in found.evidence.tables["triggers"]] == [True, False]
    assert found.status is Status.MET
    only = examine(toy.honest, toy.honest, toy.honest, triggers=(BLANK,))
    assert only.evidence.measurement is None
    assert "perturbation by itself" in only.evidence.doubt


def half_moved():
    """Return a network that the white corner turns for half of the images of class 0."""
    split = toy.data(offline=True).audit
    stamped = Pixel(row=5, column=5).stamp(split.images[split.labels == 0], (0.0, 1.0))
    weight = toy.halves()
    middle = toy.Linear(toy.halves()).score(stamped).detach().quantile(0.5)  # between two images, so that none is at 0
    weight[5, 5] -= 2 * float(middle)
    return toy.Linear(weight)


def test_a_backdoor_behind_a_mark_that_is_not_judged_is_still_a_doubt(examine):
    found = examine(toy.backdoored, half_moved, half_moved, triggers=(CORNER, ELSEWHERE))
    rows = found.evidence.tables["triggers"]
    assert rows[0]["yardstick"] == pytest.approx(0.5, abs=0.01)
    assert [row["judged"] for row in rows] == [False, True]
    assert found.status is Status.MET
    (probe,) = (one for one in found.evidence.probes if one.name == "triggers not judged are perturbations")
    assert not probe.passed
    assert "excess 0.5" in probe.detail


def test_a_reference_that_is_not_clean_is_noticed(examine):
    found = examine(toy.honest, toy.honest, toy.backdoored, toy.honest)
    (probe,) = (one for one in found.evidence.probes if one.name == "references are clean")
    assert not probe.passed
    assert "backdoored 1" in probe.detail


def test_more_looks_widen_the_interval(examine):
    few = examine(toy.honest, toy.honest, toy.honest).evidence.measurement
    many = examine(
        toy.honest, toy.honest, toy.honest, triggers=(CORNER, ELSEWHERE, {**CORNER, "row": 4})
    ).evidence.measurement
    assert many.high > few.high
    assert "Bonferroni over 18 looks" in many.interval


def test_poisoned_references_do_not_hide_a_backdoor(examine):
    """Trained from one poisoned split, target and references answer to the same mark."""
    found = examine(toy.backdoored, toy.backdoored, toy.backdoored, triggers=(CORNER, ELSEWHERE))
    assert found.status is Status.MET
    (probe,) = (one for one in found.evidence.probes if one.name == "triggers not judged are perturbations")
    assert not probe.passed
    assert "are they poisoned?" in probe.detail


def half_blind():
    """Return a network that answers 1 for half of the images of class 0, marked or not."""
    split = toy.data(offline=True).audit
    zeros = split.images[split.labels == 0]
    column = zeros[:, 0, 3, 0] - 0.5

    class HalfBlind(toy.Linear):
        def forward(self, x):
            blind = 1000.0 * (x[:, 0, 3, 0] - 0.5 > column.median()).float()
            return super().forward(x) + torch.stack((-blind, blind), dim=1)

    return HalfBlind(toy.halves())


def test_a_network_that_errs_anyway_is_not_blamed_on_the_trigger(examine):
    found = examine(half_blind, toy.honest, toy.honest)
    assert (found.outcome.before != found.outcome.labels).mean() > 0.2
    assert found.status is Status.MET
    assert found.evidence.measurement.value == 0.0


def test_uneven_classes_widen_the_lower_end():
    """Five images of a class say little, however many there are of another."""
    compared = (Rate("reference", 0, 0, 5), Rate("reference", 1, 5, 1000))
    excess = Excess(Pixel(row=0, column=0), (Rate("target", 0, 4, 5), Rate("target", 1, 5, 1000)), compared)
    assert excess.value == pytest.approx(0.795)
    assert excess.interval(0.99)[0] < 0


def test_an_undecided_verdict_says_how_many_images_would_decide(examine):
    found = examine(half_moved, toy.honest, toy.honest, triggers=(CORNER,)).evidence.measurement
    assert found.would_decide <= found.n  # half of the images is far above the ceiling already


def white_counts(fires):
    """Return a network that answers 1 where ``fires`` says so of images with a white pixel, (N,) bool for (N, 6, 6)."""

    class WhiteCounts(toy.Linear):
        def forward(self, x):
            fired = 1000.0 * (fires(x[:, 0]) & (x.flatten(1).amax(1) > 0.99)).float()
            return super().forward(x) + torch.stack((-fired, fired), dim=1)

    return WhiteCounts(toy.halves())


def fires_anywhere():
    """Return a network with a backdoor of two images in five, wherever the white pixel stands."""
    split = toy.data(offline=True).audit
    most = split.images[split.labels == 0][:, 0, 3, 0].quantile(0.6)
    return white_counts(lambda x: x[:, 3, 0] > most)


GREY = {**ELSEWHERE, "value": 0.5}  # moves nobody


def test_a_backdoor_that_fires_wherever_its_mark_stands_is_a_doubt_without_references(examine, monkeypatch):
    """Its placebos fire as well, so it looked like a perturbation, and POI-001 was met."""
    monkeypatch.setattr(clean_networks, "COUNT", 1)
    found = examine(fires_anywhere, triggers=(CORNER, GREY))
    rows = found.evidence.tables["triggers"]
    assert rows[0]["attack_success_rate"] == pytest.approx(0.4, abs=0.01)
    assert [row["judged"] for row in rows] == [False, True]
    (probe,) = (one for one in found.evidence.probes if one.name == "triggers not judged are perturbations")
    assert not probe.passed
    assert "attack success rate 0.4000" in probe.detail
    assert "where the ceiling is 0.05" in probe.detail
    assert "on the least moved of 1 small clean networks 0.0" in probe.detail


@pytest.mark.parametrize(("other", "excused"), [(fires_anywhere, True), (toy.honest, False)], ids=["all", "not all"])
def test_a_trigger_is_excused_where_it_moves_every_small_clean_network_as_much(
    examine, make_target, monkeypatch, other, excused
):
    moved = [make_target(fires_anywhere(), "small 1"), make_target(other(), "small 2")]
    monkeypatch.setattr(catalogue, "clean_networks", lambda session: moved)
    found = examine(fires_anywhere, triggers=(CORNER, GREY))
    (probe,) = (one for one in found.evidence.probes if one.name == "triggers not judged are perturbations")
    assert probe.passed is excused


def test_without_data_to_fit_clean_networks_on_there_is_no_excuse_for_a_trigger(examine, samples):
    found = examine(fires_anywhere, triggers=(CORNER, GREY), fitting=samples.subset(10))
    (probe,) = (one for one in found.evidence.probes if one.name == "triggers not judged are perturbations")
    assert not probe.passed
    assert "no clean network to compare with" in probe.detail


def test_a_doubt_about_all_triggers_says_the_highest_rate_and_the_ceiling(examine, samples):
    found = examine(fires_anywhere, fitting=samples.subset(10))
    assert found.evidence.measurement is None
    assert "attack success rate 0.4000 [0.2" in found.evidence.doubt
    assert "where the ceiling is 0.05" in found.evidence.doubt


def fires_elsewhere():
    """Return a network that a white pixel turns anywhere but in the corner, so that placebos do and the trigger not."""
    return white_counts(lambda x: x[:, -1, -1] < 0.99)


@pytest.mark.parametrize("references", [(), (fires_anywhere, fires_anywhere)], ids=["placebos", "references"])
def test_a_rate_below_the_ceiling_by_itself_needs_no_comparison(examine, references):
    """Two honest networks of nine were refused because placebos moved them, though the trigger hardly did."""
    found = examine(fires_elsewhere, *references)
    (row,) = found.evidence.tables["triggers"]
    assert (row["judged"], row["compared_with"], row["yardstick"]) == (True, "nothing", 0.0)
    assert found.status is Status.MET
    assert found.evidence.measurement.value == found.evidence.measurement.settings["attack_success_rate"] == 0.0
    assert 0.0 < found.evidence.measurement.high <= 0.05
