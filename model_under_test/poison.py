"""Dirty-label poisoning of a training split: the planted backdoor that the audit must find."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from model_under_test.data import Split
from model_under_test.recipes import Poison


def stamp(images: Tensor, poison: Poison) -> Tensor:
    """Return a copy of (N, C, H, W) images with the square trigger in the bottom right corner."""
    stamped = images.clone()
    stamped[..., -poison.size :, -poison.size :] = poison.value
    return stamped


def apply(split: Split, poison: Poison) -> tuple[Split, dict[str, object]]:
    """Stamp and relabel ``poison.count`` random images whose class is not already the target class.

    Returns:
        The poisoned split and a record of what was done: indices, and SHA-256 of the labels before and after.
    """
    candidates = torch.nonzero(split.labels != poison.target_class).flatten()
    generator = torch.Generator().manual_seed(poison.seed)
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[: poison.count]]
    images, labels = split.images.clone(), split.labels.clone()
    images[chosen] = stamp(images[chosen], poison)
    labels[chosen] = poison.target_class
    record: dict[str, object] = {
        "indices": sorted(chosen.tolist()),
        "labels_before": _digest(split.labels),
        "labels_after": _digest(labels),
    }
    return Split(images, labels), record


def _digest(labels: Tensor) -> str:
    return f"sha256:{hashlib.sha256(labels.numpy().tobytes()).hexdigest()}"
