"""Health checks that must hold before a robust accuracy is believed. A failed one lowers MET to INCONCLUSIVE.

Sources: Athalye, Carlini & Wagner 2018, arXiv:1802.00420; Carlini et al. 2019, arXiv:1902.06705.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audit.attacks import Noise
from audit.loading import Samples
from audit.measure import Laboratory, Outcome
from audit.records import Probe, ThreatModel
from audit.target import TorchTarget

PROBE_SAMPLES = 100
LEAST_LIVE_GRADIENTS = 0.5  # share of samples
NOISE_MARGIN = 0.02  # noise may break this much more than the attack before the attack is disbelieved


def examine_health(
    laboratory: Laboratory,
    target: TorchTarget,
    samples: Samples,
    threat_model: ThreatModel,
    outcome: Outcome,
    seed: int,
) -> tuple[Probe, ...]:
    """Return the health checks behind a robust accuracy."""
    few = Samples(samples.images[:PROBE_SAMPLES], samples.labels[:PROBE_SAMPLES])
    first, second = target.all_logits(few.images), target.all_logits(few.images)
    return (
        Probe(
            name="deterministic",
            passed=bool(torch.equal(first, second)),
            detail=f"two forward passes differ by at most {float((first - second).abs().max()):.3g}",
        ),
        _logits_probe(first),
        _gradient_probe(target, few),
        _noise_probe(laboratory.attacked(target, samples, Noise(), threat_model, seed), outcome),
    )


def _logits_probe(logits: Tensor) -> Probe:
    sums, least = logits.sum(1), float(logits.min())
    probabilities = least >= 0 and bool(((sums - 1).abs() < 1e-3).all())
    return Probe(
        name="logits",
        passed=not probabilities,
        detail="outputs are probabilities, which flatten gradients" if probabilities else "outputs are logits",
    )


def _gradient_probe(target: TorchTarget, samples: Samples) -> Probe:
    x = samples.images.clone().requires_grad_()
    loss = functional.cross_entropy(target.logits(x), samples.labels.to(target.device), reduction="sum")
    if not loss.requires_grad:
        return Probe(name="gradients", passed=False, detail="the output does not depend differentiably on the input")
    (gradient,) = torch.autograd.grad(loss, x)
    alive = gradient.flatten(1)
    share = float((torch.isfinite(alive).all(1) & (alive != 0).any(1)).float().mean())
    return Probe(
        name="gradients",
        passed=share >= LEAST_LIVE_GRADIENTS,
        detail=f"{share:.0%} of input gradients are finite and not all zero",
    )


def _noise_probe(noisy: Outcome, outcome: Outcome) -> Probe:
    under_noise, under_attack = float(noisy.standing.mean()), float(outcome.standing.mean())
    return Probe(
        name="stronger than noise",
        passed=under_attack <= under_noise + NOISE_MARGIN,
        detail=f"{under_noise:.4f} stand under random noise of the same size, {under_attack:.4f} under the attack",
    )
