"""Measurement: known answers on linear networks, and nothing an attack says about itself is believed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

from audit.attacks import ApgdCe, Attack, Corruption, Fgsm, Moved, Pgd
from audit.errors import AttackError, TargetError
from audit.loading import Samples
from audit.measure import BLOCK, Laboratory
from audit.metrics import distances
from audit.outcome import STANDING, WRONG_BEFORE, accuracy, rates, robust_accuracy
from audit.poisoning.triggers import Pixel
from audit.process import run
from audit.records import Bound, Knowledge, Metric, Norm, ThreatModel
from audit.store import Store
from audit.workers import Workers
from tests.unit import toy

ROOT = Path(__file__).parents[3]

FLOOR = Bound(metric=Metric.ROBUST_ACCURACY, at_least=0.9)


def threat(eps, norm=Norm.LINF):
    return ThreatModel(goal="untargeted", knowledge=Knowledge.WHITE_BOX, norm=norm, eps=eps)


class Overreaching(Attack):
    """Claims the whole pixel box, whatever the budget."""

    name: Literal["overreaching"] = "overreaching"

    def perturb(self, target, samples, threat_model, generator):
        return Moved(1 - samples.images, samples.labels)


class Shrinking(Attack):
    """Loses a sample."""

    name: Literal["shrinking"] = "shrinking"

    def perturb(self, target, samples, threat_model, generator):
        return Moved(samples.images[1:], samples.labels[1:])


def test_an_attack_that_leaves_its_budget_gains_nothing(laboratory, make_target, samples):
    outcome = laboratory.attacked(make_target(toy.honest()), samples, Overreaching(), threat(0.05), seed=0)
    assert outcome.arrays["distance"].max() <= 0.05 + 1e-6
    assert outcome.standing.all()


def test_an_attack_that_loses_samples_is_an_error(laboratory, make_target, samples):
    with pytest.raises(AttackError, match=r"expected finite images of shape \(100, 1, 6, 6\)"):
        laboratory.attacked(make_target(toy.honest()), samples, Shrinking(), threat(0.05), seed=0)


def test_samples_wrong_before_the_attack_count_as_broken(laboratory, make_target, samples):
    flipped = Samples(samples.images, 1 - samples.labels)
    outcome = laboratory.attacked(make_target(toy.fragile()), flipped, Overreaching(), threat(0.5), seed=0)
    measured = robust_accuracy(outcome, FLOOR, seed=0)
    assert measured.value == 0.0
    assert measured.raw_value == 1.0
    assert (outcome.arrays["broken_by"] == WRONG_BEFORE).all()


def test_a_transfer_attack_is_weaker_than_the_white_box_one(laboratory, make_target, samples):
    fragile, honest = make_target(toy.fragile(), "fragile"), make_target(toy.honest(), "honest")
    transferred = laboratory.attacked(honest, samples, Fgsm(), threat(0.25), seed=0, crafted_on=fragile)
    direct = laboratory.attacked(honest, samples, Fgsm(), threat(0.25), seed=0)
    assert transferred.standing.mean() == 1.0
    assert direct.standing.mean() < 0.1


def test_attack_success_rate_leaves_out_the_target_class(laboratory, make_target, samples):
    trigger = Pixel(row=5, column=5)
    poisoned = laboratory.triggered(make_target(toy.backdoored(), "backdoored"), samples, trigger)
    of_zero, of_one = rates("backdoored", poisoned, classes=2)
    assert (of_zero.n, of_one.n) == (int((samples.labels == 1).sum()), int((samples.labels == 0).sum()))
    assert (of_zero.value, of_one.value) == (0.0, 1.0)
    clean = laboratory.triggered(make_target(toy.honest()), samples, trigger)
    assert [one.value for one in rates("honest", clean, classes=2)] == [0.0, 0.0]


def test_clean_accuracy_of_a_constant_answer_is_one_half(laboratory, make_target, samples):
    bound = Bound(metric=Metric.CLEAN_ACCURACY, at_least=0.9)
    assert accuracy(laboratory.clean(make_target(toy.untrained()), samples), bound).value == 0.5


def later(laboratory):
    """Return the laboratory of another run, with the same store."""
    return Laboratory(laboratory.data_digest, laboratory.store, laboratory.tick)


def test_an_unchanged_model_is_not_attacked_twice(laboratory, make_target, samples):
    first = laboratory.attacked(make_target(toy.honest()), samples, Fgsm(), threat(0.2), seed=0)
    laboratory = later(laboratory)
    again = laboratory.attacked(make_target(toy.honest()), samples, Fgsm(), threat(0.2), seed=0)
    other = laboratory.attacked(make_target(toy.honest(), digest="sha256:other"), samples, Fgsm(), threat(0.2), seed=0)
    assert (first.from_store, again.from_store, other.from_store) == (False, True, False)
    assert (first.after == again.after).all()


def test_a_stored_result_is_of_its_bounds(laboratory, make_target, samples):
    wide, narrow = make_target(toy.honest()), make_target(toy.honest())
    narrow.bounds = (0.0, 0.9)
    laboratory.attacked(narrow, samples, Fgsm(), threat(0.3), seed=0)
    assert not later(laboratory).attacked(wide, samples, Fgsm(), threat(0.3), seed=0).from_store


def test_a_stored_result_is_not_believed_when_the_target_answers_otherwise(laboratory, make_target, samples):
    laboratory.clean(make_target(toy.honest(), digest="sha256:same"), samples)
    outcome = later(laboratory).clean(make_target(toy.untrained(), digest="sha256:same"), samples)
    assert not outcome.from_store
    assert (outcome.after == 0).all()


def test_a_stored_result_is_not_believed_when_only_the_logits_differ(laboratory, make_target, samples):
    """The same classes of clean images say nothing about how the network bears an attack."""
    laboratory.attacked(make_target(toy.honest(), digest="sha256:same"), samples, Fgsm(), threat(0.1), seed=0)
    hotter = make_target(toy.Linear(toy.halves(), scale=1.01), digest="sha256:same")
    assert not later(laboratory).attacked(hotter, samples, Fgsm(), threat(0.1), seed=0).from_store


def test_what_was_kept_is_computed_again_when_only_the_logits_differ(laboratory, make_target, samples):
    """Detectors and inversions are kept so; the digest covers no file that decides how a network answers."""
    hotter, computed = toy.Linear(toy.halves(), scale=1.01), []

    def kept(network):
        target = make_target(network, digest="sha256:same")
        later(laboratory).kept({"what": "toy"}, __file__, target, samples, lambda: (computed.append(network) or {}, {}))
        return len(computed)

    assert [kept(toy.honest()), kept(toy.honest()), kept(hotter)] == [1, 1, 2]


def test_bounds_that_float32_rounds_are_no_violation(make_target, samples):
    target = make_target(toy.honest())
    target.bounds = (0.2, 0.8)
    assert len(target.predict(samples.images.clamp(0.2, 0.8))) == 400


def test_a_target_refuses_pixels_out_of_bounds(make_target, samples):
    with pytest.raises(TargetError, match=r"expected pixels in \[0, 1\]"):
        make_target(toy.honest()).predict(samples.images + 1)


def test_a_target_refuses_logits_of_another_shape(make_target, samples):
    with pytest.raises(TargetError, match=r"expected logits of shape \(100, 2\), got \(100, 36\)"):
        make_target(torch.nn.Flatten()).predict(samples.images)


def test_distances_are_those_of_the_projected_images(laboratory, make_target, samples):
    few = samples.subset(8)
    outcome = laboratory.attacked(make_target(toy.honest()), few, Fgsm(), threat(0.2), seed=0)
    moved = torch.from_numpy(outcome.arrays["gallery_moved"])
    torch.testing.assert_close(torch.from_numpy(outcome.arrays["distance"]), distances(few.images, moved, Norm.LINF))


class Counting(Attack):
    """Moves nothing, and remembers which blocks it was given."""

    name: Literal["counting"] = "counting"

    def perturb(self, target, samples, threat_model, generator):
        SEEN.append(samples.index.tolist())
        if DYING and len(SEEN) == DYING[0]:
            raise KeyboardInterrupt
        return Moved(samples.images.clone(), samples.labels)


SEEN: list[list[int]] = []
DYING: list[int] = []


@pytest.fixture
def _forgetful():
    SEEN.clear()
    DYING.clear()


@pytest.mark.usefixtures("_forgetful")
def test_a_stopped_attack_goes_on_with_the_next_block(laboratory, make_target, samples):
    DYING.append(3)
    with pytest.raises(KeyboardInterrupt):
        laboratory.attacked(make_target(toy.honest()), samples, Counting(), threat(0.1), seed=0)
    DYING.clear()
    outcome = laboratory.attacked(make_target(toy.honest()), samples, Counting(), threat(0.1), seed=0)
    assert len(outcome) == len(samples)
    assert [block[0] for block in SEEN] == [0, BLOCK, 2 * BLOCK, 2 * BLOCK, 3 * BLOCK]


@pytest.mark.usefixtures("_forgetful")
def test_an_attack_stops_where_it_is_told_to(laboratory, make_target, samples):
    asked = []
    outcome = laboratory.attacked(
        make_target(toy.honest()),
        samples,
        Counting(),
        threat(0.1),
        seed=0,
        stop=lambda standing, n: asked.append((standing, n)) or n == 200,
    )
    assert asked == [(100, 100), (200, 200)]
    assert len(outcome) == 200


def test_a_larger_subset_goes_on_where_a_smaller_one_ended(laboratory, make_target, samples):
    target, attack = make_target(toy.honest()), Pgd(steps=2, step_size=0.05)
    laboratory.attacked(target, samples.subset(200), attack, threat(0.1), seed=0)
    assert later(laboratory).attacked(target, samples.subset(100), attack, threat(0.1), seed=0).from_store
    assert not later(laboratory).attacked(target, samples.subset(None), attack, threat(0.1), seed=0).from_store


def test_every_sample_tells_by_what_it_was_broken_and_when(laboratory, make_target, samples):
    outcome = laboratory.attacked(make_target(toy.fragile()), samples.subset(50), ApgdCe(), threat(0.1), seed=0)
    assert outcome.broken_first == {"apgd-ce": 50}
    assert outcome.arrays["steps"].max() < 10
    standing = laboratory.attacked(make_target(toy.honest()), samples.subset(50), ApgdCe(), threat(0.01), seed=0)
    assert (standing.arrays["broken_by"] == STANDING).all()
    assert (standing.arrays["steps"] == 100).all()


def test_broken_samples_cost_no_further_passes(laboratory, make_target, samples):
    attack = Pgd(steps=40, step_size=0.05)
    few = samples.subset(100)
    fragile = laboratory.attacked(make_target(toy.fragile(), "fragile"), few, attack, threat(0.1), seed=0)
    honest = laboratory.attacked(make_target(toy.honest(), "honest"), few, attack, threat(0.01), seed=0)
    assert honest.description["gradient_passes"] == 100 * 40
    assert fragile.description["gradient_passes"] < 100 * 4


def test_a_corruption_keeps_to_no_ball(laboratory, make_target, samples):
    attack = Corruption(kind="contrast", strength=1.0)
    outcome = laboratory.attacked(make_target(toy.honest()), samples.subset(10), attack, threat(0.01), seed=0)
    assert outcome.arrays["distance"].min() > 0.1


def test_blocks_are_the_same_side_by_side_and_one_after_the_other(laboratory, make_target, samples, tmp_path):
    attack, target = Pgd(steps=3, step_size=0.02), make_target(toy.fragile())
    alone = laboratory.attacked(target, samples, attack, threat(0.05), seed=0)
    beside = Laboratory("sha256:toy", Store(tmp_path / "beside", b"secret"), laboratory.tick, Workers(3))
    for stop in (None, lambda standing, n: n >= 200):
        together = beside.attacked(target, samples, attack, threat(0.05), seed=0, stop=stop)
        for name, values in alone.arrays.items():
            count = len(together) if len(values) == len(alone) else len(values)
            assert (together.arrays[name] == values[:count]).all(), name
        assert not together.from_store
        assert len(together) == (len(samples) if stop is None else 200)


def test_a_network_that_an_attack_changes_in_a_process_of_its_own_is_noticed(laboratory, make_target, samples):
    class Meddling(Pgd):
        def perturb(self, target, *given):
            with torch.no_grad():
                next(iter(target.network.parameters())).add_(1.0)
            return super().perturb(target, *given)

    beside = Laboratory("sha256:toy", laboratory.store, laboratory.tick, Workers(2))
    target = make_target(toy.honest())
    outcome = beside.attacked(target, samples, Meddling(steps=1), threat(0.05), seed=0)
    assert target.unchanged()
    assert outcome.description["untouched"] is False


def test_images_that_are_altered_in_a_process_of_its_own_are_noticed(laboratory, make_target, samples):
    class Scribbling(Pgd):
        def perturb(self, target, *given):
            samples.images[250] *= 0.99
            return super().perturb(target, *given)

    before = samples.images.clone()
    beside = Laboratory("sha256:toy", laboratory.store, laboratory.tick, Workers(2))
    outcome = beside.attacked(make_target(toy.honest()), samples, Scribbling(steps=1), threat(0.05), seed=0)
    assert torch.equal(samples.images, before), "here nothing was altered"
    assert outcome.description["untouched"] is False


KILLED = """
import os, signal, sys
import torch
from pathlib import Path
from audit.attacks import Moved, Pgd
from audit.loading import Samples
from audit.measure import Laboratory
from audit.records import Knowledge, ThreatModel
from audit.store import Store
from audit.local import wrap_network
from tests.unit import toy

class Deadly(Pgd):
    def perturb(self, *given):
        done = len(list(Path(sys.argv[1]).glob("*.result")))
        if done == 2 and sys.argv[2] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("block", done)
        return super().perturb(*given)

split = toy.data(offline=True).audit
target = wrap_network("toy", toy.honest(), classes=2, bounds=(0.0, 1.0), device=torch.device("cpu"))
laboratory = Laboratory("sha256:toy", Store(Path(sys.argv[1]), b"secret"), lambda done, total: None)
budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.1)
attack = Deadly(steps=3, step_size=0.05)
print(len(laboratory.attacked(target, Samples(split.images, split.labels), attack, budget, seed=0)))
"""


def test_an_attack_killed_outright_loses_one_block_at_most(tmp_path):
    results = tmp_path / "results"
    command = [sys.executable, "-c", KILLED, str(results)]
    killed = run([*command, "die"], cwd=ROOT, seconds=120)
    assert killed.code == -signal.SIGKILL
    kept = [path for path in results.iterdir() if path.suffix != ".lock"]
    assert len(kept) == 2, "two blocks were kept whole, and nothing half written"
    again = run([*command, "live"], cwd=ROOT, seconds=120)
    assert again.stdout.split() == ["block", "2", "block", "3", "400"], again.stderr


KILLED_TOGETHER = """
import os, signal, sys, time
import torch
from pathlib import Path
from audit.attacks import Pgd
from audit.loading import Samples
from audit.measure import Laboratory
from audit.records import Knowledge, ThreatModel
from audit.store import Store
from audit.local import wrap_network
from audit.workers import Workers
from tests.unit import toy

results, begun, deadly = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "die"

class Slow(Pgd):
    def perturb(self, target, samples, *given):
        (begun / f"{samples.index[0]}-{os.getpid()}").touch()
        if deadly and len(list(results.glob("*.result"))) >= 3:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return super().perturb(target, samples, *given)

split = toy.data(offline=True).audit
samples = Samples(split.images.repeat(2, 1, 1, 1), split.labels.repeat(2))
target = wrap_network("toy", toy.honest(), classes=2, bounds=(0.0, 1.0), device=torch.device("cpu"))
laboratory = Laboratory("sha256:toy", Store(results, b"secret"), lambda done, total: None, Workers(2))
budget = ThreatModel(goal="any", knowledge=Knowledge.WHITE_BOX, eps=0.1)
print(len(laboratory.attacked(target, samples, Slow(steps=1), budget, 0)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_killed_with_its_processes_an_attack_repeats_one_block_of_each_at_most(tmp_path):
    results, first, second = (tmp_path / name for name in ("results", "first", "second"))
    first.mkdir()
    second.mkdir()
    command = [sys.executable, "-c", KILLED_TOGETHER, str(results)]
    assert run([*command, str(first), "die"], cwd=ROOT, seconds=120).code == -signal.SIGKILL
    kept = len(list(results.glob("*.result")))
    assert kept >= 3, "what was done before is kept"
    again = run([*command, str(second), "live"], cwd=ROOT, seconds=120)
    assert again.stdout.strip() == "800", again.stderr
    blocks = [{path.name.partition("-")[0] for path in folder.iterdir()} for folder in (first, second)]
    assert len(list(second.iterdir())) == 8 - kept, "nothing that was kept is done again"
    assert len(blocks[0] & blocks[1]) <= 2
