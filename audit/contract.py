"""What a target must be before it is attacked: checked once, each breach an error that says the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.arithmetic import steers
from audit.errors import TargetError, ThirdPartyFailed
from audit.loading import Samples
from audit.target import TorchTarget

FEW = 32  # images shown
SAME = 1e-3  # logits may differ by this share of their spread between batch sizes: other kernels round otherwise


def check_data(
    name: str, samples: Samples, bounds: tuple[float, float], classes: int, shape: tuple[int, ...] | None
) -> None:
    """Hold the data to what a target says of them.

    Raises:
        TargetError: pixels outside the bounds, labels beyond the classes, or images of another shape.
    """
    low, high = torch.tensor(bounds, dtype=torch.float32).tolist()
    least, greatest = float(samples.images.min()), float(samples.images.max())
    if least < low or greatest > high:
        raise TargetError(
            f"target {name}: expected pixels in its bounds [{low:g}, {high:g}], but the data have [{least:g}, "
            f"{greatest:g}]; scale them in the dataset factory and normalise inside the network, or state the bounds"
        )
    if int(samples.labels.max()) >= classes:
        raise TargetError(
            f"target {name}: expected labels in 0..{classes - 1}, but the data have {int(samples.labels.max())}; "
            "state the right number of classes"
        )
    if shape is not None and tuple(samples.images.shape[1:]) != tuple(shape):
        raise TargetError(
            f"target {name}: expected images of shape {tuple(shape)} (input_shape), but the data have "
            f"{tuple(samples.images.shape[1:])}; correct input_shape or the dataset"
        )


def check(target: TorchTarget, samples: Samples) -> None:
    """Show a target a few images, and hold its answers to the contract.

    Raises:
        TargetError: it breaks, its logits have another shape or kind, are probabilities, NaN or infinite, differ from
            call to call, or depend on what else is in the batch.
    """
    few = samples.at(slice(0, FEW)).images
    first = _ask(target, few)
    if not target.exact:
        target.exact = not _steers(target, few, first)
    if target.draws > 1:
        return
    if not torch.equal(first, _ask(target, few)):
        raise TargetError(
            f"target {target.name}: expected the same logits for the same images, got others; the network draws at "
            "random in eval mode: remove that, or declare it with draws: 10, and it will be judged over so many draws"
        )
    if looks_like_probabilities(first):
        raise TargetError(
            f"target {target.name}: expected logits, got probabilities, which flatten the gradients that attacks "
            "follow; remove the softmax from the end of the network"
        )
    alone = torch.cat([_ask(target, image) for image in few[:4].split(1)])
    spread = float((first.amax(1) - first.amin(1)).nan_to_num(posinf=0.0).max())
    apart = float((alone - first[:4]).nan_to_num(0.0).abs().max())
    if apart > SAME * max(spread, 1e-6):
        raise TargetError(
            f"target {target.name}: expected the logits of an image whatever else is in its batch, got a difference of "
            f"{apart:.3g}; normalise by running statistics (eval mode), not by those of the batch"
        )


def _steers(target: TorchTarget, few: Tensor, exact: Tensor) -> bool:
    """Tell whether cheap arithmetic comes close enough to steer a search; a network need not know how to do it."""
    try:
        with torch.no_grad():
            cheap = target.step_logits(few).cpu()
    except Exception:  # foreign code under autocast: then float32 it is
        return False
    return steers(cheap, exact)


def looks_like_probabilities(logits: Tensor) -> bool:
    """Tell whether (N, classes) outputs are shares that sum to one."""
    return bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all())


def _ask(target: TorchTarget, images: Tensor) -> Tensor:
    try:
        return target.all_logits(images)
    except Exception as error:  # a network is foreign code: whatever it raises, it cannot be asked
        if isinstance(error, TargetError) and not isinstance(error, ThirdPartyFailed):
            raise
        what = str(error) if isinstance(error, ThirdPartyFailed) else f"{type(error).__name__}: {error}"
        raise TargetError(
            f"target {target.name}: expected logits for images {tuple(images.shape)} {images.dtype}, got "
            f"{what.splitlines()[0]}; the network must accept the data's shape, and the dataset factory must return "
            "what it was trained on"
        ) from error
