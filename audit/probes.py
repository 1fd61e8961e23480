"""Health checks on a target that must hold before a robust accuracy is believed; a failed one lowers MET.

Sources: Athalye, Carlini & Wagner 2018, arXiv:1802.00420; Carlini et al. 2019, arXiv:1902.06705.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.attacks.losses import log_odds
from audit.contract import looks_like_probabilities
from audit.loading import Samples
from audit.metrics import mcnemar
from audit.outcome import Outcome
from audit.records import Probe
from audit.recount import disagreeing
from audit.target import TorchTarget

PROBE_SAMPLES = 100
LEAST_LIVE_GRADIENTS = 0.95  # share of samples
SIGNIFICANT = 0.001


def examine_target(target: TorchTarget, samples: Samples) -> tuple[Probe, ...]:
    """Return whether a target answers in a way that gradients can be followed."""
    few = samples.at(slice(0, PROBE_SAMPLES))
    first, second = target.all_logits(few.images), target.all_logits(few.images)
    apart = float((first - second).abs().nan_to_num(0.0).max())
    probabilities = looks_like_probabilities(first)
    return (
        Probe(
            name="deterministic",
            passed=bool(torch.equal(first, second)),
            detail=f"two forward passes differ by at most {apart:.3g}"
            + (f", each the mean of {target.draws} fixed draws" if target.draws > 1 else "")
            + ("" if torch.equal(first, second) else "; an attack on a moving target fails by chance: declare draws"),
        ),
        Probe(
            name="logits",
            passed=not probabilities,
            detail="outputs are probabilities, which flatten gradients; remove the softmax"
            if probabilities
            else "outputs are logits",
        ),
        _gradient_probe(target, few),
    )


def untouched(target: TorchTarget, outcome: Outcome) -> Probe:
    """Return whether the audit left the target as it was, here and in whatever process it was attacked."""
    same = target.unchanged() and outcome.description["untouched"]
    return Probe(
        name="untouched",
        passed=same,
        detail="parameters, buffers and images are what they were before the attack"
        if same
        else "parameters, buffers or our images changed while the target was attacked; its forward pass must not "
        "write to them",
    )


def stateless(*outcomes: Outcome) -> Probe:
    """Return whether a process that saw nothing but the final images says of them what the attacked one said."""
    total, otherwise = sum(len(one) for one in outcomes), sum(map(disagreeing, outcomes))
    detail = f"of {total} final images a process that saw nothing else said otherwise about {otherwise}"
    cause = "the network keeps state, or answers by what else is in a batch; what the fresh process said counts"
    return Probe(
        name="the same answers in a fresh process",
        passed=not otherwise,
        detail=f"{detail}; {cause}" if otherwise else detail,
    )


def label_leaking(outcome: Outcome) -> Probe:
    """Return whether the attack helps: more images right after it than before it, those wrong at the start included.

    Source: Kurakin, Goodfellow & Bengio 2017, arXiv:1611.01236, section 4.4.
    """
    clean, raw = outcome.before == outcome.labels, outcome.after == outcome.labels
    repaired, broken = int(np.sum(raw & ~clean)), int(np.sum(clean & ~raw))
    leaks = repaired > broken and mcnemar(repaired, broken) <= SIGNIFICANT
    return Probe(
        name="label leaking",
        passed=not leaks,
        detail=f"{clean.mean():.4f} right before the attack, {raw.mean():.4f} after it"
        + ("; the network reads the label out of the perturbation, as after one-step training" if leaks else ""),
    )


def _gradient_probe(target: TorchTarget, samples: Samples) -> Probe:
    cause = "rounding, saturation or a no_grad in the forward pass hides them"
    x = samples.images.clone().requires_grad_()
    alive: list[Tensor] = []
    for batch, labels in zip(x.split(PROBE_SAMPLES), samples.labels.split(PROBE_SAMPLES), strict=True):
        loss = log_odds(target.logits(batch), labels.to(target.device)).sum()
        if not loss.requires_grad:
            detail = f"the output does not depend differentiably on the input; {cause}"
            return Probe(name="gradients", passed=False, detail=detail)
        (slope,) = torch.autograd.grad(loss, batch)
        flat = slope.flatten(1)
        alive.append(torch.isfinite(flat).all(1) & (flat != 0).any(1))
    share = float(torch.cat(alive).float().mean())
    healthy = share >= LEAST_LIVE_GRADIENTS
    return Probe(
        name="gradients",
        passed=healthy,
        detail=f"{share:.0%} of input gradients are finite and not all zero" + ("" if healthy else f"; {cause}"),
    )
