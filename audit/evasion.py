"""Robust accuracy: attack, stop when it is decided, challenge what looks good, and the control beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit import by_class, sequential
from audit.attacks import Attack, Noise
from audit.challenge import Challenges, Subject, challenge, lost
from audit.examine import Examined, control_name, control_result, refusals_are_doubts
from audit.judge import compare
from audit.loading import Samples
from audit.measure import BLOCK
from audit.memorised.examine import memorised
from audit.outcome import Outcome, robust_accuracy
from audit.probes import examine_target, label_leaking, stateless, untouched
from audit.records import Evidence, Knowledge, Measurement, Probe, Status
from audit.requirements import EvasionRequirement
from audit.session import AuditSession
from audit.target import TorchTarget
from audit.trial import Shown
from audit.workers import Work

STEPS_OF_A_BYTE = 255
LEAST_RIGHT, LEAST_BROKEN = 0.5, 0.5  # shares a control must get right, and then lose, to vouch for an attack
NOISE_DRAWS = 2  # a control must stand both: one draw alone spares every second brittle image of two classes


@refusals_are_doubts
def evasion(requirement: EvasionRequirement, session: AuditSession) -> Examined:
    """Measure robust accuracy under the requirement's attack, with probes and control."""
    trial = _Trial(requirement, session)
    target, samples = session.target(), session.samples(requirement.samples)
    session.notes.extend(_remarks(requirement, target.bounds))
    outcome = trial.attack(target, samples)
    measurement = trial.measure(outcome, len(samples))
    probes, challenges = trial.probes(target, samples, outcome), Challenges()
    standing = outcome.standing
    if compare(requirement.bound, measurement) is not Status.NOT_MET:
        challenges = trial.challenges(target, samples, outcome)
        outcome, measurement, standing = trial.lowered(target, samples, outcome, challenges)
    trial.show(outcome, challenges)
    control, bound = requirement.control, requirement.bound
    worst = by_class.worst_class(outcome.labels, standing, target.classes, bound, measurement.interval)
    evidence = Evidence(
        measurement=session.copies.named_in(measurement),
        doubt=by_class.no_better_than_one_answer(outcome.labels, measurement, bound),
        tables=worst.tables(),
        meaning=_meaning(requirement),
        probes=(
            *probes,
            *challenges.probes,
            untouched(target, outcome),
            stateless(outcome, *(found for _, found in challenges.outcomes)),
            *memorised(target, session),
        ),
        control=control_result(control_name(control), bound, trial.measure_control),
    )
    return evidence, outcome


def evasion_ahead(requirement: EvasionRequirement, session: AuditSession) -> Iterator[Work]:
    """Yield the attack on the control, which nothing has to be known for."""
    if requirement.attack.iterated:
        yield _Trial(requirement, session).attack_control


class _Trial:
    """One requirement, ready to be measured on any target."""

    def __init__(self, requirement: EvasionRequirement, session: AuditSession) -> None:
        self._requirement, self._session = requirement, session

    def attack(self, target: TorchTarget, samples: Samples, lost: int = 0, since: int = 0) -> Outcome:
        """Attack block by block until the interval decides; one-step attacks, and ``--exhaustive``, look once.

        ``lost`` samples, all among the first ``since``, fell to a probe; what was attacked before comes from the store.
        """
        requirement = self._requirement
        surrogate = self._session.target(requirement.crafted_on) if requirement.crafted_on else None
        return self._session.laboratory.attacked(
            target,
            samples,
            requirement.attack,
            requirement.threat_model,
            requirement.seed,
            crafted_on=surrogate,
            stop=sequential.enough(requirement.bound, len(samples), lost, since) if self._stops(len(samples)) else None,
        )

    def measure(self, outcome: Outcome, limit: int, lost: int = 0) -> Measurement:
        """Count an outcome, with the interval that suits how often one looked."""
        requirement = self._requirement
        settings: dict[str, Any] = {
            "attack": requirement.attack.describe(),
            "norm": requirement.threat_model.norm.value,
            "eps": requirement.threat_model.eps,
        }
        if len(outcome.stages) > 1:
            settings["composition"] = [one.describe() for one in self._stages(requirement.attack)]
        if requirement.crafted_on is not None:
            settings["crafted_on"] = requirement.crafted_on
        return robust_accuracy(
            outcome,
            requirement.bound,
            requirement.seed,
            method=sequential.ANYTIME if self._stops(limit) else sequential.EXACT,
            limit=limit,
            lost=lost,
            **settings,
        )

    def show(self, outcome: Outcome, challenges: Challenges) -> None:
        """Keep what the target was shown, for the exhibits."""
        name, requirement = self._session.target_name, self._requirement
        self._session.shown.append(self._shown(outcome, f"{requirement.id} {requirement.attack.name}", name))
        for one, found in challenges.outcomes:
            knowledge = Knowledge.TRANSFER if one.crafted_on else requirement.threat_model.knowledge
            self._session.shown.append(
                Shown(
                    f"{requirement.id} challenger: {one.name}",
                    name,
                    found,
                    one.attack,
                    requirement.threat_model.model_copy(update={"knowledge": knowledge}),
                    one.crafted_on.name if one.crafted_on else None,
                    challenger=True,
                )
            )

    def _shown(self, outcome: Outcome, label: str, target: str) -> Shown:
        requirement = self._requirement
        return Shown(
            label, target, outcome, requirement.attack, requirement.threat_model, crafted_on=requirement.crafted_on
        )

    def probes(self, target: TorchTarget, samples: Samples, outcome: Outcome) -> tuple[Probe, ...]:
        """Return the health checks that need no further attack."""
        try:
            return (*examine_target(target, samples), label_leaking(outcome))
        except Exception as error:  # a probe that breaks is a doubt; it must not cost the measurement
            return (_broke("health checks", error),)

    def challenges(self, target: TorchTarget, samples: Samples, outcome: Outcome) -> Challenges:
        """Run other attacks on the same images."""
        subject = self._subject(target, outcome)
        try:
            surrogate = self._session.control_target(self._requirement.control)
        except Exception:  # a control that cannot be had is reported as such; the other challengers do without it
            surrogate = None
        try:
            return challenge(self._session.laboratory, subject, samples, surrogate)
        except Exception as error:  # as above
            return Challenges((_broke("challengers", error),))

    def lowered(
        self, target: TorchTarget, samples: Samples, outcome: Outcome, challenges: Challenges
    ) -> tuple[Outcome, Measurement, NDArray[np.bool_]]:
        """Count what challengers broke; where that leaves it open, attack on until it is decided again.

        Returns:
            The outcome of the attack, the measurement, and which samples (n,) are left standing by all.
        """
        while True:
            fell = lost(self._session.laboratory, self._subject(target, outcome), samples, challenges)
            measurement = self.measure(outcome, len(samples), int(fell.sum()))
            decided = compare(self._requirement.bound, measurement) is not Status.INCONCLUSIVE
            if decided or not fell.any() or len(outcome) == len(samples):
                return outcome, measurement, outcome.standing & ~fell
            outcome = self.attack(target, samples, int(fell.sum()), len(outcome) + 1)

    def attack_control(self) -> tuple[TorchTarget, Samples, Outcome]:
        """Attack the control, on samples of its own number."""
        control = self._requirement.control
        target, samples = self._session.control_target(control), self._session.samples(control.samples)
        return target, samples, self.attack(target, samples)

    def measure_control(self) -> Measurement:
        """Attack the control, which must be right before the attack and under noise of its size, and must fall to it.

        Raises:
            ValueError: it was no fit subject, so that its failure says nothing about the attack.
        """
        target, samples, outcome = self.attack_control()
        own = self._shown(outcome, f"{self._requirement.id} control, {self._requirement.attack.name}", target.name)
        self._session.shown.append(replace(own, on_target=False))
        right, stand = float((outcome.before == outcome.labels).mean()), float(outcome.standing.mean())
        if right < LEAST_RIGHT or right - stand < LEAST_BROKEN * right:
            raise ValueError(
                f"it was right on {right:.3f} before the attack and on {stand:.3f} after it; a control must be "
                "right on half of the images and lose half of those"
            )
        measured = self.measure(outcome, len(samples))
        if isinstance(self._requirement.attack, Noise):
            return measured
        stood = self._right_under_noise(target, samples.at(slice(0, len(outcome))))
        return measured.model_copy(update={"settings": {**measured.settings, "right_under_noise": stood}})

    def _right_under_noise(self, target: TorchTarget, samples: Samples) -> float:
        """Return the share of images on which a control is right under every draw of noise of the full budget.

        Raises:
            ValueError: it is less than half, so that any touch breaks the control, an attack or not.
        """
        requirement, laboratory = self._requirement, self._session.laboratory
        seeds = range(requirement.seed, requirement.seed + NOISE_DRAWS)
        threat = requirement.threat_model
        draws = [laboratory.attacked(target, samples, Noise(), threat, seed).standing for seed in seeds]
        share = float(np.logical_and.reduce(draws).mean())
        if share < LEAST_RIGHT:
            raise ValueError(
                f"under random noise of the same size ({threat.norm}, eps {threat.eps:g}, {NOISE_DRAWS} draws) it was "
                f"right on {share:.3f} of the images; a control must be right on half of them, or any touch breaks it"
            )
        return share

    def _subject(self, target: TorchTarget, outcome: Outcome) -> Subject:
        requirement = self._requirement
        return Subject(
            target, requirement.attack, requirement.threat_model, outcome, requirement.seed, requirement.bound
        )

    def _stops(self, limit: int) -> bool:
        return self._requirement.attack.iterated and not self._session.options.exhaustive and limit > BLOCK

    def _stages(self, attack: Attack) -> tuple[Attack, ...]:
        return attack.stages(self._session.target().classes)


def _remarks(requirement: EvasionRequirement, bounds: tuple[float, float]) -> list[str]:
    """Return what a reader must know of a budget below the smallest change that an image of bytes can show."""
    eps, step = requirement.threat_model.eps, (bounds[1] - bounds[0]) / STEPS_OF_A_BYTE
    said = f"{requirement.id}: eps {eps:g} is less than one step of a pixel in an 8-bit image ({step:.2g})"
    return [f"{said}: robustness within it says next to nothing"] if eps < step else []


def _meaning(requirement: EvasionRequirement) -> str:
    """Return what it means when robust accuracy misses its floor."""
    attack = requirement.attack
    if requirement.crafted_on is not None:
        return f"robustness does not even hold against images crafted on {requirement.crafted_on}"
    if attack.knowledge is not Knowledge.WHITE_BOX:
        return f"robustness does not hold against a {attack.knowledge} attack"
    if attack.iterated:
        return "robustness does not hold against iterated attacks along its own gradients"
    return "robustness does not hold against a single step along its own gradients"


def _broke(name: str, error: Exception) -> Probe:
    return Probe(name=name, passed=False, detail=f"{type(error).__name__}: {error}")
