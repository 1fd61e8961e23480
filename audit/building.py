"""Building a target from what a policy says of it: factory, verified weights, defence; here, or again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audit.artifacts.weights import load_weights
from audit.defences import AnyDefence
from audit.errors import TargetError
from audit.identity import network_digest
from audit.loading import resolve
from audit.local import LocalTarget, wrap_network
from audit.randomness import seeded
from audit.target import Blueprint

States = Mapping[str, dict[str, Tensor]]
BUILDING_SEED = 30_000  # a factory that draws weights of its own draws the same ones wherever it is called


def weights_of(blueprint: Blueprint) -> States:
    """Return the verified weights of the networks of a blueprint, by their names; without any there is no entry.

    Raises:
        IntegrityError: a weight file is missing, refused, or not the pinned one.
    """
    found = {}
    for one in (blueprint, blueprint.inner, blueprint.partner):
        if one is not None and one.weights is not None:
            found[one.name] = load_weights(one.weights, one.sha256)
    return found


def build(blueprint: Blueprint, device: torch.device, states: States | None = None) -> LocalTarget:
    """Build the target that a blueprint describes.

    Args:
        blueprint: of a network, or of one behind a defence.
        device: where it is to compute.
        states: what :func:`weights_of` gave, if it was asked before.

    Raises:
        IntegrityError: the weight file is missing, refused, or not the pinned one.
        TargetError: the factory returns no network, or the weights do not fit it.
    """
    states = weights_of(blueprint) if states is None else states
    if blueprint.defence is not None and blueprint.inner is not None:
        partner = build(blueprint.partner, device, states) if blueprint.partner else None
        target = defend(blueprint.name, build(blueprint.inner, device, states), blueprint.defence, partner)
    else:
        target = _from_factory(blueprint, device, states.get(blueprint.name))
    target.blueprint = blueprint
    return target


def _from_factory(blueprint: Blueprint, device: torch.device, state: dict[str, Tensor] | None) -> LocalTarget:
    """Build a network with a factory and load verified weights into it.

    The digest covers the factory's name, the source files of every module, and every parameter and buffer: another
    architecture or other weights are another target.
    """
    name, factory, weights = blueprint.name, blueprint.factory, blueprint.weights
    make = resolve(factory, f"targets.{name}.factory", blueprint.root)
    try:
        with seeded(BUILDING_SEED):
            network = make()
    except Exception as error:  # a factory is foreign code: whatever it raises, there is no network
        raise TargetError(f"target {name}: {factory} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise TargetError(
            f"target {name}: expected {factory} to return a torch.nn.Module, got {type(network).__name__}; "
            "a factory takes no arguments and returns the network, its weights still to be loaded"
        )
    if weights is not None and state is not None:
        _check_types(name, weights.name, state, network)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:300]
            raise TargetError(
                f"target {name}: {weights.name} does not fit {factory}: {first}; "
                "the factory must build the architecture that was trained, with the same parameter names"
            ) from error
    return LocalTarget(
        name,
        network,
        classes=blueprint.classes,
        digest=network_digest(factory, make, network, blueprint.draws),
        bounds=blueprint.bounds,
        device=device,
        draws=blueprint.draws,
    )


def _check_types(name: str, file: str, state: dict[str, Tensor], network: nn.Module) -> None:
    """Refuse weights that loading would round without a word, float64 into a float32 network for example.

    Raises:
        TargetError: a tensor's type does not fit into the network's.
    """
    for key, wanted in network.state_dict().items():
        given = state.get(key)
        if given is not None and torch.promote_types(given.dtype, wanted.dtype) != wanted.dtype:
            raise TargetError(
                f"target {name}: {file} has {key} in {given.dtype}, which the network would round to {wanted.dtype}; "
                "save the weights in the network's own types, so that what is audited is what was saved"
            )


def defend(name: str, inner: LocalTarget, defence: AnyDefence, partner: LocalTarget | None) -> LocalTarget:
    """Put a target behind an input defence; attacks on the result go through it."""
    network = defence.wrap(inner.network, inner.bounds, partner.network if partner else None)
    parts = [defence.model_dump_json(), inner.digest, partner.digest if partner else ""]
    return wrap_network(
        name,
        network,
        classes=inner.classes,
        bounds=inner.bounds,
        device=inner.device,
        draws=max(defence.draws, inner.draws, partner.draws if partner else 1),
        made_from=" ".join(parts),
    )
