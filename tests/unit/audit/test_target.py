"""Targets: two that differ in anything have different digests, and only verified weights are loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from audit import building
from audit.devices import choose_device
from audit.errors import IntegrityError, PolicyError, TargetError
from audit.target import Blueprint
from tests.unit import toy

ROOT = Path(__file__).parents[3]


def build(factory="honest", weights=None, sha256=None):
    reference = factory if ":" in factory else f"tests.unit.toy:{factory}"
    blueprint = Blueprint(
        name="toy", root=ROOT, classes=2, bounds=(0.0, 1.0), factory=reference, weights=weights, sha256=sha256
    )
    return building.build(blueprint, torch.device("cpu"))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"weight": torch.ones(36)}))
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_targets_that_differ_have_different_digests(weights):
    """Networks of one source file once shared a digest, and so the results of one another."""
    targets = [build(), build("fragile"), build("untrained"), build("honest", weights, digest(weights))]
    assert len({target.digest for target in targets}) == 4
    assert build().digest == build().digest


def test_loaded_weights_are_those_of_the_file(weights, samples):
    target = build("honest", weights, digest(weights))
    assert target.predict(samples.images[:4]).tolist() == (samples.images[:4].sum((1, 2, 3)) > 18).long().tolist()


def test_weights_in_a_type_that_loses_nothing_are_loaded(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"weight": torch.full((36,), 0.5).half()}))
    assert build("honest", path, digest(path)).network.state_dict()["weight"].tolist() == [0.5] * 36


def test_target_is_frozen(weights):
    target = build()
    x = torch.rand(2, 1, 6, 6, requires_grad=True)
    target.logits(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in target._network.parameters())


@pytest.mark.parametrize(
    ("content", "pinned", "error", "message"),
    [
        pytest.param(b"x", "0" * 64, IntegrityError, "expected SHA-256 0+ .*got 2d7116", id="another digest"),
        pytest.param(b"x", None, IntegrityError, "expected safetensors", id="no safetensors"),
        pytest.param(
            save({"other": torch.ones(3)}), None, TargetError, "does not fit tests.unit.toy:honest", id="misfit"
        ),
        pytest.param(
            save({"weight": torch.ones(36).double()}),
            None,
            TargetError,
            r"would round to torch\.float32",
            id="rounding",
        ),
    ],
)
def test_wrong_weights_are_refused(tmp_path, content, pinned, error, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        build("honest", path, pinned or digest(path))


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"none\.safetensors: expected a weight file, got No such file"):
        build("honest", tmp_path / "none.safetensors", "0" * 64)


@pytest.mark.parametrize(
    "reference", ["tests.unit.toy:nothing", "no.such.module:f", "tests.unit.toy:SIDE"], ids=["name", "module", "kind"]
)
def test_factory_that_cannot_be_called_is_a_policy_error(reference):
    with pytest.raises(PolicyError, match=r"targets\.toy\.factory: expected"):
        build(reference)


@pytest.mark.parametrize("name", ["abacus", "hpu", "meta"])
def test_device_that_is_not_here_is_named(name):
    with pytest.raises(TargetError, match=rf"expected cpu, cuda or mps.* \(got '{name}'\)"):
        choose_device(name)


def test_device_that_is_here_is_taken():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cuda", "mps", "cpu"}


def test_toy_networks_are_what_they_say(samples):
    with torch.no_grad():
        for network in (toy.honest(), toy.fragile(), toy.backdoored()):
            assert (network(samples.images).argmax(1) == samples.labels).all()


def test_digest_covers_the_modules_that_the_factory_only_imports(tmp_path, monkeypatch):
    """A class in another module could once be changed without its stored results being thrown away."""
    monkeypatch.syspath_prepend(tmp_path)
    source = "import torch\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return {}x[:, 0, 0, :2]\n"
    (tmp_path / "made_elsewhere.py").write_text("from imported_net import Net\n\n\ndef make():\n    return Net()\n")
    (tmp_path / "imported_net.py").write_text(source.format(""))
    first = build("made_elsewhere:make").digest
    (tmp_path / "imported_net.py").write_text(source.format("-"))
    assert build("made_elsewhere:make").digest != first


def test_digest_covers_helpers_and_plain_attributes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_helpers.py").write_text("def shown(x):\n    return x\n")
    (tmp_path / "own_net.py").write_text(
        "import torch\nimport own_helpers\n\nclass Net(torch.nn.Module):\n    temperature = 1.0\n\n"
        "    def forward(self, x):\n        return own_helpers.shown(x[:, 0, 0, :2]) / self.temperature\n\n\n"
        "def warm():\n    net = Net()\n    net.temperature = 2.0\n    return net\n\n\n"
        "def hot():\n    net = Net()\n    net.temperature = 9.0\n    return net\n"
    )
    first = build("own_net:warm").digest
    assert build("own_net:warm").digest == first
    assert build("own_net:hot").digest != first
    (tmp_path / "own_helpers.py").write_text("def shown(x):\n    return x.round()\n")
    assert build("own_net:warm").digest != first


class Writing(torch.nn.Module):
    """Write into its own input, as a careless in-place operation does."""

    def forward(self, x):
        x.mul_(0)
        return torch.stack((x.flatten(1).sum(1), x.flatten(1).sum(1) + 1), dim=1)


@pytest.mark.parametrize("exact", [True, False], ids=["float32", "cheap arithmetic"])
def test_a_network_that_writes_into_its_input_writes_into_a_copy(make_target, samples, exact):
    """A network once emptied the harness's own images, and with them what the rest of the run was measured on."""
    target, before = make_target(Writing()), samples.images.clone()
    target.exact = exact
    for _ in range(15):  # cheap arithmetic traces a network after a while
        with torch.no_grad():
            target.step_logits(samples.images)
    target.predict(samples.images)
    assert torch.equal(samples.images, before)


def test_gradients_pass_through_the_copy(make_target, samples):
    target = make_target(toy.honest())
    x = samples.images[:3].clone().requires_grad_()
    target.logits(x)[:, 1].sum().backward()
    assert torch.equal(x.grad[0, 0], toy.halves())
