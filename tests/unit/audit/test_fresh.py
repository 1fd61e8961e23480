"""What counts is said by a process that has seen nothing but the images in question."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from audit.attacks import Fgsm, Noise
from audit.building import build_target
from audit.errors import TargetError
from audit.fresh import FreshProcesses
from audit.measure import Laboratory
from audit.outcome import STANDING
from audit.probes import stateless
from audit.records import Knowledge, ThreatModel
from audit.store import Store
from tests.unit import toy

THREAT = ThreatModel(goal="any wrong class", knowledge=Knowledge.WHITE_BOX, eps=0.25)
NETWORK = '''
"""A network of two classes by which half of the image is brighter."""
import os
from pathlib import Path
import torch
from torch import nn

ANSWERS = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        left, right = x[..., :3].mean((1, 2, 3)), x[..., 3:].mean((1, 2, 3))
        return 40 * torch.stack([right - left, left - right], 1) * self.weight


class Remembering(Net):
    """Knows an image again by its noise, whatever is added to all of a half, and repeats its first answer."""

    def forward(self, x):
        found = super().forward(x)
        noise = torch.cat([half - half.mean((2, 3), keepdim=True) for half in x.detach().split(3, 3)], 3).flatten(1)
        if not torch.is_grad_enabled():
            ANSWERS.append((noise, found.clone()))
        noises, said = (torch.cat(one) for one in zip(*ANSWERS)) if ANSWERS else (noise, found)
        apart, nearest = torch.cdist(noise, noises).min(1)
        return found if torch.is_grad_enabled() else said[nearest]


class OfItsBatch(Net):
    """Answers by the first image of the batch."""

    def forward(self, x):
        found = super().forward(x)
        return found + 0 * found[:1] if len(x) == 1 else found + 5 * found[:1].detach()


class Switched(Net):
    """Sees black and white only, which hides its gradients, unless a file says otherwise."""

    def forward(self, x):
        return super().forward(x if (Path(__file__).parent / "off").exists() else (x > 0.5).float())


class Leaving(Net):
    def forward(self, x):
        os._exit(0)


class Writing(Net):
    def forward(self, x):
        found = super().forward(x)
        x.data.fill_(0.5)
        return found


class Drawing(Net):
    """Weights that no seed of torch or NumPy decides."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0 + os.getpid() / 1e7]))
'''


@pytest.fixture(scope="module")
def fresh():
    processes = FreshProcesses()
    yield processes
    processes.close()


@pytest.fixture
def named(tmp_path):
    """Give a function that builds a target by the name of a class in a file of its own."""

    def make(factory, **changed):
        (tmp_path / "net.py").write_text(NETWORK)
        defaults = {"root": tmp_path, "classes": 2, "bounds": (0.0, 1.0), "device": torch.device("cpu")}
        return build_target(factory, f"net.py:{factory}", None, None, **(defaults | changed))

    return make


class Remembered(Store):
    """A store that tells what was written."""

    def put(self, key, arrays, description):
        self.keys = [*getattr(self, "keys", ()), key]
        super().put(key, arrays, description)


def measuring(tmp_path, fresh, name="results"):
    """Return the laboratory of a run of its own."""
    return Laboratory("sha256:toy", Remembered(tmp_path / name, b"secret"), lambda done, total: None, fresh=fresh)


def test_a_fresh_process_says_what_this_one_says(fresh, named, samples):
    target = named("Net")
    assert torch.allclose(fresh.answered(target, samples.images).logits, target.all_logits(samples.images), atol=1e-5)


def test_a_network_that_remembers_its_answers_gains_nothing_by_it(tmp_path, fresh, named, samples):
    honest = measuring(tmp_path, fresh).attacked(named("Net"), samples, Fgsm(), THREAT, seed=0)
    target = named("Remembering")
    target.all_logits(samples.images)  # what the network needs to remember
    believed = measuring(tmp_path, None, "alone").attacked(target, samples, Fgsm(), THREAT, seed=0)
    judged = measuring(tmp_path, fresh).attacked(target, samples, Fgsm(), THREAT, seed=0)
    assert believed.standing.mean() > 0.7
    assert judged.standing.mean() == honest.standing.mean() < 0.5
    assert stateless(honest).passed
    assert not stateless(judged).passed


def test_a_network_that_answers_by_its_batch_is_found_out(tmp_path, fresh, named, samples):
    judged = measuring(tmp_path, fresh).attacked(named("OfItsBatch"), samples, Noise(), THREAT, seed=0)
    probe = stateless(judged)
    assert not probe.passed
    assert "the network keeps state, or answers by what else is in a batch" in probe.detail


@pytest.mark.parametrize("draws", [1, 2])
def test_a_result_is_measured_again_after_the_defence_was_switched_off(tmp_path, fresh, named, samples, draws):
    """A file that no digest covers decides whether the network defends itself."""
    defended = measuring(tmp_path, fresh).attacked(named("Switched", draws=draws), samples, Fgsm(), THREAT, seed=0)
    assert (
        measuring(tmp_path, fresh).attacked(named("Switched", draws=draws), samples, Fgsm(), THREAT, seed=0).from_store
    )
    (tmp_path / "off").touch()
    again = measuring(tmp_path, fresh).attacked(named("Switched", draws=draws), samples, Fgsm(), THREAT, seed=0)
    assert defended.standing.mean() == 1.0
    assert not again.from_store
    assert again.standing.mean() < 0.5


def test_a_stored_result_counts_as_a_fresh_process_has_it(tmp_path, fresh, named, samples):
    """The images of the stored result are judged, whatever it says that they came to."""
    target, laboratory = named("Net"), measuring(tmp_path, fresh)
    first = laboratory.attacked(target, samples, Fgsm(), THREAT, seed=0)
    flattered = {"after": first.labels, "loss": 0 * first.arrays["loss"], "broken_by": np.full(len(first), STANDING)}
    (key,) = laboratory.store.keys
    laboratory.store.put(key, {**laboratory.store.get(key)[0], **flattered}, first.description)
    again = measuring(tmp_path, fresh).attacked(target, samples, Fgsm(), THREAT, seed=0)
    assert again.standing.mean() == first.standing.mean() < 0.5


def test_a_network_that_ends_its_process_is_refused(fresh, named, samples):
    with pytest.raises(TargetError, match="its process ended with 0 and said nothing"):
        fresh.answered(named("Leaving"), samples.images)


def test_a_network_that_writes_into_its_images_writes_into_a_copy(fresh, named, samples):
    before = samples.images.clone()
    fresh.answered(named("Writing"), samples.images)
    assert torch.equal(samples.images, before)


def test_another_network_in_another_process_is_refused(fresh, named, samples):
    target = named("Drawing")
    for _ in range(2):
        with pytest.raises(TargetError, match="another process built another network of the same factory"):
            fresh.answered(target, samples.images)


def test_what_a_factory_draws_is_the_same_wherever_it_is_called(fresh, tmp_path, samples):
    (tmp_path / "drawn.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))\n"
    )
    target = build_target(
        "drawn", "drawn.py:make", None, None, root=tmp_path, classes=2, bounds=(0.0, 1.0), device=torch.device("cpu")
    )
    assert torch.allclose(fresh.answered(target, samples.images).logits, target.all_logits(samples.images), atol=1e-5)


def test_a_network_of_the_audits_own_is_asked_here(fresh, make_target):
    assert not fresh.serves(make_target(toy.honest()))


def test_nothing_is_left_of_them():
    processes = FreshProcesses()
    origin = processes._origin
    processes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(origin, 0)
