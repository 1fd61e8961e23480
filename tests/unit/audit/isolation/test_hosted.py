"""Targets in other processes answer as they would here; what counts is said by one that has seen nothing else."""

from __future__ import annotations

import os
import select

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audit.artifacts.weights import file_sha256
from audit.attacks import ApgdCe, DeepFool, Fgsm, Noise, Pgd, Square
from audit.contract import check
from audit.errors import TargetError, ThirdPartyFailed
from audit.isolation import host
from audit.isolation.host import InThisProcess
from audit.isolation.hosted import HostedTarget
from audit.loading import Samples
from audit.measure import BLOCK, ONE_STEP_BLOCK, Laboratory
from audit.outcome import STANDING
from audit.probes import examine_target, stateless
from audit.records import Knowledge, ThreatModel
from audit.store import Store
from audit.target import PREDICT_BATCH, Blueprint

THREAT = ThreatModel(goal="any wrong class", knowledge=Knowledge.WHITE_BOX, eps=0.25)
WIDE = THREAT.model_copy(update={"eps": 0.45})


class Remembered(Store):
    """A store that tells what was written."""

    def put(self, key, arrays, description):
        self.keys = [*getattr(self, "keys", ()), key]
        super().put(key, arrays, description)


def measuring(tmp_path, name="results"):
    """Return the laboratory of a run of its own."""
    return Laboratory("sha256:toy", Remembered(tmp_path / name, b"secret"), lambda done, total: None)


def slopes(target, images, weights):
    """Return logits, and the gradients of each weighting of them, asked for one after the other."""
    x = images.clone().requires_grad_()
    logits = target.logits(x)
    return logits.detach(), [torch.autograd.grad((logits * one).sum(), x, retain_graph=True)[0] for one in weights]


def test_logits_and_gradients_are_those_of_the_network(named, samples):
    weights = [torch.tensor([1.0, 0.0]), torch.tensor([0.5, -2.0])]
    here, there = (slopes(named("Net", here=one), samples.images[:9], weights) for one in (True, False))
    assert torch.equal(here[0], there[0])
    assert all(torch.equal(*pair) for pair in zip(here[1], there[1], strict=True))


def test_answers_to_several_questions_can_be_differentiated_in_any_order(named, samples):
    target, images = named("Net"), [samples.images[:5].clone().requires_grad_(), samples.images[5:20].requires_grad_()]
    first, second = (target.logits(one)[:, 0].sum() for one in images)
    later, sooner = torch.autograd.grad(second, images[1])[0], torch.autograd.grad(first, images[0])[0]
    assert later.shape == (15, 1, 6, 6)
    assert torch.allclose(sooner[0], later[0])


@pytest.mark.parametrize(
    "attack",
    [
        Fgsm(),
        Noise(),
        Pgd(steps=5, step_size=0.1),
        Square(queries=50),
        ApgdCe(steps=5),
        DeepFool(steps=5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_attack_comes_to_the_same_figures(tmp_path, named, samples, attack):
    few = samples.at(slice(0, 150))
    here, there = (
        measuring(tmp_path, str(one)).attacked(named("Net", here=one), few, attack, THREAT, seed=0)
        for one in (True, False)
    )
    assert np.array_equal(here.arrays["moved"], there.arrays["moved"])
    assert np.array_equal(here.standing, there.standing)
    assert here.description["gradient_passes"] == there.description["gradient_passes"]
    assert here.description["forward_passes"] == there.description["forward_passes"]


def test_a_network_that_draws_at_random_draws_the_same_each_time(named, samples):
    answers = [named("Random", draws=3).all_logits(samples.images[:50]) for _ in range(2)]
    assert torch.equal(*answers)
    target = named("Random", draws=3)
    assert torch.equal(target.fresh_logits(samples.images[:50])[0], answers[0])
    with pytest.raises(TargetError, match="draws at random in eval mode"):
        check(named("Random"), samples)


def test_a_network_without_gradients_is_seen_to_have_none(named, samples):
    x = samples.images[:5].clone().requires_grad_()
    assert not named("Detached").logits(x).requires_grad
    probes = {one.name: one for one in examine_target(named("Detached"), samples)}
    assert "does not depend differentiably on the input" in probes["gradients"].detail


def test_a_forked_process_asks_a_process_of_its_own(named, samples):
    target = named("Remembering")
    target.all_logits(samples.images)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(int(target.all_logits(samples.images).argmax(1).sum())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 100)) == int(samples.labels.sum())


def test_a_fresh_process_says_what_this_one_says(named, samples):
    expected = named("Net", here=True).all_logits(samples.images)
    assert torch.allclose(named("Net").fresh_logits(samples.images)[0], expected, atol=1e-5)


def test_a_network_that_remembers_its_answers_gains_nothing_by_it(tmp_path, named, samples):
    honest = measuring(tmp_path).attacked(named("Net"), samples, Fgsm(), THREAT, seed=0)
    believed = measuring(tmp_path, "alone").attacked(named("Remembering", here=True), samples, Fgsm(), THREAT, seed=0)
    judged = measuring(tmp_path).attacked(named("Remembering"), samples, Fgsm(), THREAT, seed=0)
    assert believed.standing.mean() > 0.7
    assert judged.standing.mean() == honest.standing.mean() < 0.5
    assert stateless(honest).passed
    assert not stateless(judged).passed


def test_a_network_that_lets_no_search_see_an_image_fall_gains_nothing_by_it(tmp_path, named, samples):
    """A search that keeps what misleads keeps nothing then: its last images are judged, not the unmoved ones."""
    attack = Pgd(steps=3, step_size=0.1, random_start=False)
    honest = measuring(tmp_path).attacked(named("Net"), samples, attack, THREAT, seed=0)
    believed = measuring(tmp_path, "alone").attacked(named("Recalling", here=True), samples, attack, THREAT, seed=0)
    judged = measuring(tmp_path).attacked(named("Recalling"), samples, attack, THREAT, seed=0)
    assert believed.standing.mean() == 1.0
    assert judged.standing.mean() == honest.standing.mean() < 0.5
    assert stateless(honest).passed
    assert not stateless(judged).passed


def test_memory_that_processes_would_have_in_common_is_not(tmp_path, named, samples):
    honest = measuring(tmp_path).attacked(named("Net"), samples, Fgsm(), THREAT, seed=0)
    target = named("Telling")
    target.all_logits(samples.images)
    target.restart()
    moved = torch.from_numpy(honest.arrays["moved"])
    assert (target.predict(moved) == samples.labels).float().mean() == honest.standing.mean() < 0.5
    judged = measuring(tmp_path).attacked(target, samples, Fgsm(), THREAT, seed=0)
    assert judged.standing.mean() == honest.standing.mean()


def test_what_a_network_says_of_itself_decides_nothing(tmp_path, named, samples):
    target = named("Lying")
    assert target.draws == 1
    assert not stateless(measuring(tmp_path).attacked(target, samples, Noise(), THREAT, seed=0)).passed
    assert target.digest != named("Lying", draws=2).digest


def test_another_network_in_another_process_is_refused(named, samples):
    with pytest.raises(TargetError, match="another process built another network of the same factory"):
        named("Drawing").fresh_logits(samples.images)


def test_a_network_that_changes_our_attacks_changes_them_for_itself_only(tmp_path, named, samples, monkeypatch):
    monkeypatch.setattr(Fgsm, "perturb", Fgsm.perturb)  # put back after the test
    honest = measuring(tmp_path).attacked(named("Net"), samples, Fgsm(), THREAT, seed=0)
    judged = measuring(tmp_path).attacked(named("Sabotaging"), samples, Fgsm(), THREAT, seed=0)
    assert judged.standing.mean() == honest.standing.mean() < 0.5
    sabotaged = named("Sabotaging", here=True)
    assert measuring(tmp_path, "alone").attacked(sabotaged, samples, Fgsm(), THREAT, seed=0).standing.mean() == 1.0


def test_a_network_that_answers_by_its_batch_is_found_out(tmp_path, named, samples):
    probe = stateless(measuring(tmp_path).attacked(named("OfItsBatch"), samples, Noise(), THREAT, seed=0))
    assert not probe.passed
    assert "the network keeps state, or answers by what else is in a batch" in probe.detail


@pytest.mark.parametrize("draws", [1, 2])
def test_a_result_is_measured_again_after_the_defence_was_switched_off(tmp_path, named, samples, draws):
    """A file that no digest covers decides whether the network defends itself."""

    def attacked():
        return measuring(tmp_path).attacked(named("Switched", draws=draws), samples, Fgsm(), THREAT, seed=0)

    defended = attacked()
    assert attacked().from_store
    (tmp_path / "off").touch()
    again = attacked()
    assert defended.standing.mean() == 1.0
    assert not again.from_store
    assert again.standing.mean() < 0.5


@pytest.mark.parametrize("draws", [1, 2])
def test_a_result_is_measured_again_where_only_the_final_images_tell_that_the_defence_is_off(
    tmp_path, named, samples, draws
):
    """Images of black and white look the same to the network with its defence and without it."""
    dice = torch.rand(samples.images.shape, generator=torch.Generator().manual_seed(0))
    plain = Samples((samples.images > dice).float(), samples.labels)
    attack = Pgd(steps=3, step_size=0.2)

    def attacked():
        return measuring(tmp_path).attacked(named("Switched", draws=draws), plain, attack, WIDE, seed=0)

    defended = attacked()
    assert attacked().from_store
    (tmp_path / "off").touch()
    again = attacked()
    assert defended.standing.mean() > 0.9
    assert not again.from_store
    assert again.standing.mean() < 0.5


def test_who_judges_is_shown_the_images_in_another_order_and_by_another_number(named, samples, monkeypatch):
    """A network that knows by place, or by how many come at once, which images it is shown knows others then."""
    shown, question = [], HostedTarget.question

    def watched(self, x, **how):
        shown.append(x.clone())
        return question(self, x, **how)

    monkeypatch.setattr(HostedTarget, "question", watched)
    target = named("Net")
    target.fresh_logits(samples.images)
    together = torch.cat(shown)
    assert {len(one) for one in shown[:-1]}.isdisjoint({BLOCK, ONE_STEP_BLOCK, PREDICT_BATCH})
    shown.clear()
    target.fresh_logits(samples.images)
    assert not torch.equal(torch.cat(shown), together), "it cannot be known beforehand"
    assert (together == samples.images).flatten(1).all(1).float().mean() < 0.05
    assert {one.numpy().tobytes() for one in together} == {one.numpy().tobytes() for one in samples.images}


def test_a_stored_result_counts_as_a_fresh_process_has_it(tmp_path, named, samples):
    """The images of the stored result are judged, whatever it says that they came to."""
    target, laboratory = named("Net"), measuring(tmp_path)
    first = laboratory.attacked(target, samples, Fgsm(), THREAT, seed=0)
    flattered = {"after": first.labels, "loss": 0 * first.arrays["loss"], "broken_by": np.full(len(first), STANDING)}
    (key,) = laboratory.store.keys
    laboratory.store.put(key, {**laboratory.store.get(key)[0], **flattered}, first.description)
    again = measuring(tmp_path).attacked(target, samples, Fgsm(), THREAT, seed=0)
    assert again.standing.mean() == first.standing.mean() < 0.5


def test_a_network_that_writes_into_its_images_writes_into_a_copy(named, samples):
    before = samples.images.clone()
    named("Writing").fresh_logits(samples.images)
    assert torch.equal(samples.images, before)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Leaving", "target Leaving: its process ended before it answered"),
        ("Raising", "OSError: the disc is full"),
        ("Interrupting", "KeyboardInterrupt"),
        ("Misleading", "no such tool"),
        ("Unconfined", "PermissionError"),
        ("Greedy", "RuntimeError: .*memory"),
        ("Narrow", r"expected logits of shape \(100, 2\), got \(100, 1\)"),
        ("Filing", "PermissionError: .*seen"),
        ("Marking", "PermissionError"),
        ("Calling", "PermissionError"),
        ("Starting", "PermissionError"),
        ("Reading", "PermissionError: .*/mem"),
    ],
)
def test_what_a_network_must_not_do_is_a_refusal_and_nothing_else(named, samples, factory, message):
    with pytest.raises(TargetError, match=message):
        named(factory).all_logits(samples.images)


def test_the_audit_cannot_be_signalled_by_a_network(named, samples, tmp_path):
    (tmp_path / "pid").write_text(str(os.getpid()))
    with pytest.raises(TargetError, match=r"PermissionError: .*not permitted"):
        named("Killing").all_logits(samples.images)


def test_what_a_network_may_do_it_can(named, samples):
    check(named("Threaded"), samples)


@pytest.mark.parametrize("ask", ["restart", "judge"])
def test_the_process_that_was_attacked_has_ended_when_the_next_one_answers(named, samples, ask):
    target, ended, build = named("Staying"), [], HostedTarget._another
    target.all_logits(samples.images)
    process = os.dup(target._asked.caller._end.peek()[2][1])

    def another():
        ended.append(bool(select.select([process], [], [], 0)[0]))
        return build(target)

    target._another = another
    if ask == "restart":
        target.restart()
        target.all_logits(samples.images)
    else:
        target.fresh_logits(samples.images)
    os.close(process)
    assert ended == [True]


def test_no_flag_and_no_place_of_an_open_file_outlives_a_process(tmp_path, named, samples):
    """Both belong to whoever has the file from whom; weights and the null device once were the same for all."""
    save_file({"weight": torch.ones(1)}, tmp_path / "w.safetensors")
    weights = {"weights": tmp_path / "w.safetensors", "sha256": file_sha256(tmp_path / "w.safetensors")}
    target = named("Flagging", **weights)
    target.restart()
    assert torch.equal(target.predict(samples.images), samples.labels)


def test_a_network_that_does_not_answer_is_not_waited_for(named, samples, monkeypatch):
    monkeypatch.setattr(host, "SECONDS", 2.0)
    target = named("Hanging")
    with pytest.raises(ThirdPartyFailed, match="did not answer in time"):
        target.all_logits(samples.images)


def test_the_contract_tells_what_a_network_raised(named, samples):
    with pytest.raises(TargetError, match=r"expected logits for images .* got OSError: the disc is full; the network"):
        check(named("Raising"), samples)


def test_features_and_tensors_are_those_of_the_network(processes, tmp_path, samples):
    (tmp_path / "made.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.ReLU(), nn.Linear(7, 2))\n"
    )
    blueprint = Blueprint(name="made", root=tmp_path, classes=2, bounds=(0.0, 1.0), factory="made.py:make")
    here = InThisProcess().target(blueprint, torch.device("cpu"))
    there = processes.target(blueprint, torch.device("cpu"))
    assert torch.equal(there.features(samples.images[:20]), here.features(samples.images[:20]))
    assert there.features(samples.images[:20]).shape == (20, 7)
    for (name, tensor), (other, held) in zip(there.tensors(), here.tensors(), strict=True):
        assert name == other
        assert torch.equal(tensor, held)
