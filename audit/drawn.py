"""Which exhibits an audit draws: those that cost seconds, and with ``full`` or ``--exhibits`` all of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audit.exhibits import Exhibits
from audit.policy import Policy
from audit.records import Family, Profile
from audit.requirements import InversionRequirement, Requirement, TriggerRequirement


def of(
    policy: Policy, chosen: Sequence[Requirement], profile: Profile, *, everything: bool, retrain: bool
) -> dict[str, tuple[Any, ...]]:
    """Return the exhibits by kind.

    Args:
        policy: what may be shown.
        chosen: the requirements that are audited; where some are left out, only what belongs to these is shown.
        profile: decides which poisonings are shown.
        everything: whether to draw all that the policy names.
        retrain: whether released weights are trained again.
    """
    shown, partial = policy.exhibits, len(chosen) < len(policy.requirements)
    everything = everything and not partial
    poisonings = shown.poisonings.scenarios if shown.poisonings and everything else ()
    released = [name for name, spec in policy.targets.items() if spec.recipe and spec.weights]
    return {
        "scenarios": shown.scenarios if everything else (),
        "seen": () if everything or partial else ("what was shown for the verdicts",),
        "curves": () if partial else tuple(one for one in shown.curves if everything or one.quick),
        "defences": shown.defences if everything else (),
        "poisonings": tuple(one for one in poisonings if profile is Profile.FULL or one.quick),
        "runtime": shown.runtime if everything else (),
        "triggers": tuple(one for one in chosen if isinstance(one, TriggerRequirement)),
        "inverted": tuple(one for one in chosen if isinstance(one, InversionRequirement)),
        "worst": ("all attacks",) if any(one.family is Family.EVASION for one in chosen) else (),
        "retrained": tuple(released) if retrain else (),
    }


def left_out(shown: Exhibits) -> dict[str, int]:
    """Return how many exhibits of each kind are not drawn unless everything is."""
    counts = {
        "scenarios": len(shown.scenarios),
        "curves": sum(not one.quick for one in shown.curves),
        "defences": len(shown.defences),
        "poisonings": len(shown.poisonings.scenarios) if shown.poisonings else 0,
        "run-time detections": len(shown.runtime),
    }
    return {kind: count for kind, count in counts.items() if count}
