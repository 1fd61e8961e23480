"""What a policy may show beside the verdicts, one type an exhibit. Nothing here is judged."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from audit.poisoning.plan import Poisoning
from audit.poisoning.triggers import AnyTrigger
from audit.records import Norm, Record
from audit.requirements import AnyAttack, Limits, ReferenceNetworks, TargetName, check_budget


class Scenario(Record):
    """One row of the scenario table: a target, and what it is shown."""

    label: Annotated[str, Field(min_length=3)]
    target: TargetName
    attack: AnyAttack | None = None
    norm: Norm = Norm.LINF
    eps: Annotated[float, Field(gt=0.0)] | None = None
    crafted_on: TargetName | None = None
    trigger: AnyTrigger | None = None
    target_class: Annotated[int, Field(ge=0)] | None = None
    samples: Limits = Limits()
    seed: int = 0
    gallery: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.attack is not None and not self.attack.bounded:
            if self.eps is not None:
                raise ValueError(f"attack: {self.attack.name} keeps to no eps-ball (got an eps)")
        elif (self.attack is None) != (self.eps is None):
            raise ValueError("give attack and eps together (got one of them)")
        elif self.attack is not None:
            check_budget(self.attack, self.norm)
        if self.attack is not None and self.trigger is not None:
            raise ValueError("give at most one of attack, trigger (got both)")
        if (self.trigger is None) != (self.target_class is None):
            raise ValueError("give trigger and target_class together (got one of them)")
        if self.crafted_on is not None and self.attack is None:
            raise ValueError("crafted_on needs an attack (got none)")
        return self


class Curve(Record):
    """Accuracy against eps: one attack, several budgets, several targets.

    An attack that looks for the smallest perturbation (``fab-t`` with ``smallest``, ``deepfool``) runs once, at the
    greatest eps; the others once an eps. A ``quick`` one is drawn in every audit, the others with the profile full.
    """

    title: Annotated[str, Field(min_length=3)]
    targets: Annotated[tuple[TargetName, ...], Field(min_length=1)]
    attack: AnyAttack
    norm: Norm = Norm.LINF
    eps: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=2)]
    samples: Limits = Limits()
    seed: int = 0
    quick: bool = False

    @model_validator(mode="after")
    def _within_a_ball(self) -> Self:
        check_budget(self.attack, self.norm)
        return self


class DefenceCheck(Record):
    """How much of a defence's robustness is left when the attack goes through it: one row a defended target."""

    target: TargetName
    attack: AnyAttack
    norm: Norm = Norm.LINF
    eps: Annotated[float, Field(gt=0.0)]
    samples: Limits = Limits()
    seed: int = 0

    @model_validator(mode="after")
    def _within_a_ball(self) -> Self:
        check_budget(self.attack, self.norm)
        return self


class PoisonScenario(Record):
    """One row of the table of poisonings; slow ones, each a training, are left to the profile full."""

    label: Annotated[str, Field(min_length=3)]
    poison: Poisoning
    quick: bool = False


class PoisonTable(Record):
    """Networks of one recipe, each trained on another poisoned copy, beside clean ones of that recipe."""

    reference_networks: ReferenceNetworks
    scenarios: Annotated[tuple[PoisonScenario, ...], Field(min_length=1)]


class RuntimeCheck(Record):
    """How many triggered images STRIP recognises at inference, on a network with a backdoor."""

    target: TargetName
    trigger: AnyTrigger
    target_class: Annotated[int, Field(ge=0)]
    samples: Limits = Limits()
    seed: int = 0


class Exhibits(Record):
    """What the report shows beside the verdicts: with the profile full or ``--exhibits``, but for quick curves."""

    scenarios: tuple[Scenario, ...] = ()
    curves: tuple[Curve, ...] = ()
    defences: tuple[DefenceCheck, ...] = ()
    poisonings: PoisonTable | None = None
    runtime: tuple[RuntimeCheck, ...] = ()
