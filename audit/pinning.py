"""Making the files that pin what reference networks contribute: ``python -m audit pin-references``.

Everything is counted anew, by the same session and checks that would use the pins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.errors import PolicyError
from audit.loading import Samples
from audit.poisoning import references, unknown
from audit.poisoning.cure import poison_of
from audit.poisoning.references import Asked, Pins
from audit.poisoning.triggers import Trigger
from audit.requirements import CureRequirement, InversionRequirement, ReferenceNetworks, TriggerRequirement
from audit.session import AuditSession
from audit.trainer import FIRST_REFERENCE

Comparing = TriggerRequirement | CureRequirement | InversionRequirement


@dataclass(frozen=True, slots=True)
class _Plan:
    """One file of pins: the requirements that use it, and the networks of the one that uses most."""

    file: str
    networks: ReferenceNetworks
    users: tuple[Comparing, ...]


def pin(session: AuditSession, say: Callable[[str], object]) -> list[str]:
    """Train the reference networks of a policy, and write what they contribute; returns the files.

    Raises:
        PolicyError: the policy pins none, or names no ``trainer_digest`` to tell whether they still hold.
    """
    plans = _plans(session)
    if not plans:
        raise PolicyError(f"{session.file.path.name}: expected reference_networks with pins: FILE (got none)")
    for plan in plans:
        references.write(session.root / plan.file, _pins(plan, session, say))
    return [plan.file for plan in plans]


def _plans(session: AuditSession) -> list[_Plan]:
    users: dict[str, list[Comparing]] = {}
    for one in session.file.policy.requirements:
        if isinstance(one, Comparing) and one.reference_networks is not None and one.reference_networks.pins:
            users.setdefault(one.reference_networks.pins, []).append(one)
    plans = []
    for file, group in users.items():
        named = [one.reference_networks for one in group if one.reference_networks is not None]
        if len({one.target for one in named}) > 1:
            raise PolicyError(f"{file}: expected the networks of one target in a file of pins (got several)")
        plans.append(_Plan(file, max(named, key=lambda one: one.count), tuple(group)))
    return plans


def _pins(plan: _Plan, session: AuditSession, say: Callable[[str], object]) -> Pins:
    recipe = session.spec(plan.networks.target).recipe or ""
    training = session.trainer.training_digest(recipe)
    if training is None:
        raise PolicyError(
            f"{session.file.path.name}: trainer_digest: expected a function, to pin what it gave (got none)"
        )
    asked = _asked(plan.users, session)
    networks = session.trainer.references(plan.networks.model_copy(update={"pins": None}))
    say(f"{plan.file}: {len(networks)} networks of {plan.networks.target}, from the cache or trained now")
    session.trainer.prepare(networks, asked.prepare)
    found = []
    for seed, one in enumerate(networks, FIRST_REFERENCE):
        found.append(asked.of(one, seed, session.trainer.train(recipe, seed=seed).found or ""))
        say(f"{one.name}: done")
    return Pins(recipe=recipe, training=training, counted_by=references.counted_by(), networks=tuple(found))


def _asked(users: Sequence[Comparing], session: AuditSession) -> Asked:
    triggers: list[tuple[Trigger, Samples]] = []
    inversions: list[tuple[Samples, int, int]] = []
    for one in users:
        if isinstance(one, InversionRequirement):
            inversions.append((unknown.images(session), one.steps, unknown.SEEDS[0]))
        else:
            named = one.triggers if isinstance(one, TriggerRequirement) else (poison_of(one.cured, session).trigger,)
            triggers += [(trigger, session.samples(one.samples)) for trigger in named if trigger is not None]
    once = {(trigger.text, references.images_digest(samples)): (trigger, samples) for trigger, samples in triggers}
    return Asked(tuple(once.values()), tuple(inversions))
