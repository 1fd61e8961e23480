"""Other attacks on the same images, paired: whether the attack that was asked for is as strong as it should be.

The stronger result becomes the number: a sample of an iterated attack that any challenger broke within the same budget
counts as broken, and a challenger that broke one of the first samples is run on all. (The figure of a one-step attack
stays that attack's, after which it is named.) The attack is *disbelieved* only where a challenger is stronger
significantly (one-sided exact McNemar test) and by more than a margin, since on honestly robust networks Square beats
PGD by two to four points. One step is disbelieved where an iterated attack is much stronger and either breaks most of
what stood, as it does after one-step training, or leaves clearly less than the floor; between, the gap is told.

Source: the checklist of Carlini et al. 2019, arXiv:1902.06705, section 5 (more steps, restarts, gradient-free attacks,
transfer, growing budgets).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audit.attacks import ApgdCe, Attack, AutoAttack, Noise, Pgd, Square
from audit.judge import better_end
from audit.loading import Samples
from audit.measure import Laboratory
from audit.metrics import mcnemar, proportion_interval
from audit.outcome import Outcome
from audit.probes import SIGNIFICANT
from audit.records import Bound, Knowledge, Norm, Probe, ThreatModel
from audit.sequential import BELIEVED_FROM
from audit.target import TorchTarget

MARGIN = 0.05  # points by which a challenger may be stronger before the attack is disbelieved
ONE_STEP_MARGIN = 0.10  # points by which an iterated attack may, without a word; weakly robust ones differ by more
ONE_STEP_ONLY = 0.5  # share of what stood under one step; where an iterated attack leaves less, that was all there is
STEPS, QUERIES = 40, 1000
GROWTH_SAMPLES = 100
OTHER_SEED = 1
MORE_OF_THE_SAME = ("more steps", "a restart", "more queries")
CAUSES = {
    "more steps": "the attack had not converged",
    "more queries": "the attack had not converged",
    "a restart": "the attack depends on its start",
    "square": "gradients mislead (masking), so an attack without them does better",
    "transfer": "gradients of another network do better than its own, which are masked",
    "noise": "the attack is no attack here",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """An attack on a target, what it came to, and what is required of that, if anything is."""

    target: TorchTarget
    attack: Attack
    threat_model: ThreatModel
    outcome: Outcome
    seed: int
    bound: Bound | None = None


@dataclass(frozen=True, slots=True)
class Challenger:
    """Another attack within the same budget; ``crafted_on`` makes it a transfer attack."""

    name: str
    attack: Attack
    crafted_on: TorchTarget | None = None


@dataclass(frozen=True, slots=True)
class Challenges:
    """What the challengers found: probes, each one's outcome, and those that broke a sample that stood."""

    probes: tuple[Probe, ...] = ()
    outcomes: tuple[tuple[Challenger, Outcome], ...] = ()
    breakers: tuple[Challenger, ...] = ()


def challenge(laboratory: Laboratory, subject: Subject, samples: Samples, surrogate: TorchTarget | None) -> Challenges:
    """Run every challenger that the threat model allows on the first samples of an attack.

    More of the same (steps, starts, queries) is compared with the attack as it was; the other challengers with what the
    attack and more of the same left standing, for that is what gradients can do.

    Args:
        laboratory: runs attacks.
        subject: what is challenged.
        samples: those of the subject's outcome, in the same order.
        surrogate: another network, for the transfer attack.
    """
    few = samples.at(slice(0, min(BELIEVED_FROM, len(subject.outcome))))
    standing = reference = subject.outcome.standing[: len(few)]
    probes, outcomes, breakers = [], [], []
    challengers = list(_challengers(subject, surrogate))
    grows = subject.threat_model.knowledge is Knowledge.WHITE_BOX
    laboratory.clean_logits(subject.target, few)  # once, not once in each process
    laboratory.workers.side_by_side(
        [partial(_run, laboratory, subject, one, few) for one in challengers]
        + [partial(_grown, laboratory, subject, few, size) for size in (_sizes(subject) if grows else ())]
    )
    for one in challengers:
        found = _run(laboratory, subject, one, few)
        if one.name == "iterated":
            probes.append(_beyond_one_step(reference, found.standing, subject.bound))
        else:
            probes.append(_compare(one.name, reference, found.standing))
        outcomes.append((one, found))
        if one.name in MORE_OF_THE_SAME:
            reference = reference & found.standing
        if bool((standing & ~found.standing).any()) and subject.attack.iterated:
            breakers.append(one)
            standing = standing & found.standing
    if grows:
        probe, found = _growth(laboratory, subject, few)
        probes.append(probe)
        outcomes.append((Challenger("growing eps", _growing(subject.threat_model.eps)), found))
    return Challenges(tuple(probes), tuple(outcomes), tuple(breakers))


def lost(laboratory: Laboratory, subject: Subject, samples: Samples, challenges: Challenges) -> NDArray[np.bool_]:
    """Return which of the subject's samples (n,) stood under an iterated attack and fall to a challenger.

    What fell on the first samples stays fallen: on all samples a challenger draws other starts.
    """
    standing = subject.outcome.standing.copy()
    if not subject.attack.iterated:
        return np.zeros_like(standing)
    whole = samples.at(slice(0, len(subject.outcome)))
    for _, found in challenges.outcomes:
        standing[: len(found)] &= found.standing
    for one in challenges.breakers:
        standing &= _run(laboratory, subject, one, whole).standing
    fell: NDArray[np.bool_] = subject.outcome.standing & ~standing
    return fell


def _run(laboratory: Laboratory, subject: Subject, challenger: Challenger, samples: Samples) -> Outcome:
    knowledge = Knowledge.TRANSFER if challenger.crafted_on else subject.threat_model.knowledge
    threat = subject.threat_model.model_copy(update={"knowledge": knowledge})
    seed = subject.seed + OTHER_SEED
    return laboratory.attacked(
        subject.target, samples, challenger.attack, threat, seed, crafted_on=challenger.crafted_on
    )


def _challengers(subject: Subject, surrogate: TorchTarget | None) -> Iterator[Challenger]:
    attack, threat = subject.attack, subject.threat_model
    white_box = threat.knowledge is Knowledge.WHITE_BOX
    iterated = Pgd(steps=STEPS, step_size=2.5 * threat.eps / STEPS)
    if white_box and not attack.iterated:
        yield Challenger("iterated", iterated)
    elif white_box:
        steps = 2 * (attack.steps if isinstance(attack, Pgd) else 50)
        yield Challenger("more steps", Pgd(steps=steps, step_size=2.5 * threat.eps / steps))
        yield Challenger("a restart", ApgdCe())
    scores = threat.knowledge in (Knowledge.WHITE_BOX, Knowledge.BLACK_BOX_SCORE)
    if isinstance(attack, Square):
        yield Challenger("more queries", Square(queries=max(QUERIES, 2 * attack.queries)))
    elif scores and attack.iterated and not isinstance(attack, AutoAttack):
        yield Challenger("square", Square(queries=QUERIES))
    if surrogate is not None and surrogate.digest != subject.target.digest:
        yield Challenger("transfer", iterated, surrogate)
    yield Challenger("noise", Noise())


def _compare(name: str, standing: NDArray[np.bool_], challenged: NDArray[np.bool_]) -> Probe:
    stronger, weaker = int(np.sum(standing & ~challenged)), int(np.sum(challenged & ~standing))
    n, p = len(standing), mcnemar(stronger, weaker)
    believed = (stronger - weaker) / n <= MARGIN or p > SIGNIFICANT
    return Probe(
        name=f"as strong as {name}",
        passed=believed,
        detail=_figures(name, standing, challenged) + ("" if believed else f", McNemar p={p:.2g}; {CAUSES[name]}"),
    )


def _beyond_one_step(standing: NDArray[np.bool_], challenged: NDArray[np.bool_], bound: Bound | None) -> Probe:
    """Return whether what stood under one step stands, on the whole, under an iterated attack.

    Any honest network loses more to that one; a weakly robust one by more than the margin.

    Args:
        standing: (n,) under one step.
        challenged: (n,) under the iterated attack.
        bound: what is required; None leaves every gap beyond the margin a doubt.
    """
    gap, doubt, remark = (int(standing.sum()) - int(challenged.sum())) / len(standing), "", ""
    if gap > ONE_STEP_MARGIN:
        if challenged.sum() < ONE_STEP_ONLY * standing.sum():
            doubt = "; the network is hardened against one step only (one-step training overfits to it)"
        elif bound is None or _misses(challenged, bound):
            doubt = f"; {gap:.4f} more falls to it than to one step, which leaves less than is required"
        else:
            remark = f"; {gap:.4f} more falls to it than to one step, so the figure speaks of one step only"
    figures = _figures("iterated", standing, challenged)
    return Probe(name="an iterated attack agrees", passed=not doubt, detail=figures + doubt + remark)


def _misses(standing: NDArray[np.bool_], bound: Bound) -> bool:
    """Tell whether a share misses a bound, with its exact interval."""
    ends = proportion_interval(int(standing.sum()), len(standing), bound.confidence)
    return better_end(bound, *ends) < 0


def _figures(name: str, standing: NDArray[np.bool_], challenged: NDArray[np.bool_]) -> str:
    return f"{standing.mean():.4f} stood so far, {challenged.mean():.4f} under {_described(name)}, n={len(standing)}"


def _sizes(subject: Subject) -> list[float]:
    """Return growing eps, up to where no network can be right any more."""
    low, high = subject.target.bounds
    eps, half = subject.threat_model.eps, (high - low) / 2
    largest = max(half, eps) if subject.threat_model.norm is Norm.LINF else 4 * eps
    return sorted({eps, (eps + largest) / 2, largest})


def _grown(laboratory: Laboratory, subject: Subject, few: Samples, size: float) -> Outcome:
    wider = subject.threat_model.model_copy(update={"eps": size})
    few = few.at(slice(0, GROWTH_SAMPLES))
    return laboratory.attacked(subject.target, few, _growing(size), wider, subject.seed)


def _growing(size: float) -> Pgd:
    return Pgd(steps=STEPS, step_size=2.5 * size / STEPS)


def _growth(laboratory: Laboratory, subject: Subject, few: Samples) -> tuple[Probe, Outcome]:
    """Attack at growing eps: accuracy must not rise, and must fall significantly if there is any room to.

    At half the range every image can become the same grey, so no more than chance is left then of any network; an
    attack along gradients that breaks no more there than at eps is blind, however little it breaks.

    Returns:
        The probe, and what the attack at eps itself came to.
    """
    sizes = _sizes(subject)
    outcomes = [_grown(laboratory, subject, few, size) for size in sizes]
    lines = [f"{one.standing.mean():.3f} at eps {size:g}" for one, size in zip(outcomes, sizes, strict=True)]
    shares = [one.standing for one in outcomes]
    rising = any(_fewer(later, sooner) for sooner, later in pairwise(shares))
    chance = max(float(np.mean(outcomes[0].labels == label)) for label in range(subject.target.classes))
    fell = len(sizes) == 1 or float(shares[0].mean()) <= chance or _fewer(shares[0], shares[-1])
    probe = Probe(
        name="accuracy falls as eps grows",
        passed=not rising and fell,
        detail=", ".join(lines)
        + ("; more room for the attack must not help the network" if rising else "")
        + ("" if fell else "; the attack gains nothing from more room, so its gradients lead nowhere"),
    )
    return probe, outcomes[0]


def _fewer(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Tell whether significantly fewer samples stand after than before."""
    return mcnemar(int(np.sum(before & ~after)), int(np.sum(after & ~before))) <= SIGNIFICANT


def _described(name: str) -> str:
    return {
        "iterated": f"{STEPS}-step PGD",
        "a restart": "APGD on cross-entropy from another start",
        "square": f"Square with {QUERIES:,} queries",
        "transfer": "PGD transferred from the control",
        "noise": "random noise of the same size",
    }.get(name, name)
