"""What a network holds, wherever it holds it."""

from __future__ import annotations

from collections import deque
from functools import partial

import pytest
import torch
from torch import nn

from audit import held as tensors
from audit.errors import TargetError
from audit.held import held


class Plain:
    """An object that is no module."""

    __slots__ = ("inside",)

    def __init__(self, inside):
        self.inside = inside


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda one: Plain(one), id="slots"),
        pytest.param(lambda one: partial(print, one), id="partial"),
        pytest.param(lambda one: Plain(one).__getattribute__, id="nothing to be followed"),
        pytest.param(lambda one: deque([{"a": (one,)}]), id="nested"),
        pytest.param(lambda one: one.numpy(), id="array"),
        pytest.param(lambda one: one.tolist(), id="numbers"),
        pytest.param(lambda one: lambda x, y=one: x, id="default"),
        pytest.param(lambda one: nn.ParameterList([nn.Parameter(one)]), id="parameters"),
    ],
)
def test_a_tensor_is_found_where_it_is_kept(keep, request):
    network, kept = nn.Linear(2, 2), torch.arange(5.0)
    network.kept = keep(kept)
    found = [tensor for _, tensor in held(network) if tensor.shape == (5,) and torch.equal(tensor, kept)]
    assert len(found) == (0 if "followed" in request.node.callspec.id else 1)


def test_names_say_the_way_and_each_tensor_comes_once():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    network.again = {"here": network[0].weight}
    assert sorted(name for name, _ in held(network)) in (["0.bias", "0.weight"], ["0.bias", "again.here"])


def test_a_network_that_leads_to_itself_ends():
    network = nn.Linear(2, 2)
    network.__dict__["own"] = [network]
    assert len(list(held(network))) == 2


def test_too_many_objects_are_an_error_and_no_silence(monkeypatch):
    monkeypatch.setattr(tensors, "MOST_OBJECTS", 100)
    network = nn.Linear(2, 2)
    network.kept = [[torch.zeros(2)] for _ in range(100)]
    with pytest.raises(TargetError, match="at most 100 objects"):
        list(held(network))
