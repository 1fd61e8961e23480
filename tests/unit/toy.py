"""A two-class problem of 6x6 images on which every answer is known; honest, fragile, backdoored and lying networks.

The left half of an image of class 1 is brighter than its right half by a wide margin, that of class 0 darker. Pixel
(0, 0) tells the classes apart too, but by a hair: a network that looks only there is right on clean images and falls at
once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from audit.loading import Samples

SIDE = 6
MARGIN = 0.2
HAIR = 0.02
CLASSES = 2


@dataclass(frozen=True)
class Split:
    """Images (N, 1, 6, 6) float32 in [0, 1], labels (N,) int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Data:
    """What a dataset factory returns."""

    audit: Split
    name: str = "toy"
    classes: int = CLASSES
    digest: str = "sha256:toy"


def halves() -> Tensor:
    """Return the (6, 6) pattern: +1 on the left half, -1 on the right."""
    pattern = torch.ones(SIDE, SIDE)
    pattern[:, SIDE // 2 :] = -1
    return pattern


def data(*, offline: bool, n: int = 400) -> Data:
    """Return ``n`` images, half of each class."""
    return _of(torch.arange(n) % CLASSES)


def uneven(*, offline: bool) -> Data:
    """Return 400 images, 13 of class 0 and 387 of class 1."""
    return _of((torch.arange(400) % 32 != 0).long())


def repeated(*, offline: bool) -> Data:
    """Return twenty images, each fifty times."""
    few = data(offline=offline, n=20).audit
    return Data(Split(few.images.repeat(50, 1, 1, 1), few.labels.repeat(50)))


def _of(labels: Tensor) -> Data:
    """Return an image of each of these classes."""
    n = len(labels)
    sign = (2.0 * labels - 1).view(-1, 1, 1, 1)
    noise = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) - 0.5
    images = 0.5 + MARGIN * sign * halves() + 0.1 * noise
    images[:, :, 0, 0] = 0.5 + HAIR * sign[:, :, 0, 0]
    return Data(Split(images.float(), labels))


def pair() -> tuple[Any, Any]:
    """Return images and labels as NumPy arrays, as the shortest dataset factory does."""
    split = data(offline=True, n=50).audit
    return split.images.double().numpy(), split.labels.int().numpy()


def damaged(*, offline: bool) -> Data:
    """Behave like a dataset factory whose files are damaged."""
    raise ValueError("train.bin: expected SHA-256 aa, got bb; delete it")


def missing(*, offline: bool) -> Data:
    """Behave like a dataset factory whose files are not to be had."""
    raise FileNotFoundError("toy data: no copy here, and the download failed")


@dataclass(frozen=True)
class Trained:
    """What a trainer returns."""

    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


def train(
    recipe: str,
    dataset: Data,
    *,
    device: str,
    retrain: bool,
    examples: tuple[Tensor, Tensor] | None = None,
    seed: int | None = None,
) -> Trained:
    """Write the weights of a network by its name, as a trainer does; ``worn`` leaves a note."""
    network = fragile() if recipe == "worn" else honest()
    path = Path(f"{recipe}.safetensors").resolve()
    path.write_bytes(save(network.state_dict()))
    notes = ("worn.damaged: set aside and trained again",) if recipe == "worn" else ()
    return Trained(path, hashlib.sha256(path.read_bytes()).hexdigest(), notes)


def quarters(n: int = 40) -> Samples:
    """Return ``n`` images of four classes: a quarter of the image is brighter than the rest."""
    labels = torch.arange(n) % 4
    noise = 0.1 * torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    images = 0.3 + noise
    for index, label in enumerate(labels.tolist()):
        top, left = (label // 2) * SIDE // 2, (label % 2) * SIDE // 2
        images[index, :, top : top + SIDE // 2, left : left + SIDE // 2] += 0.3
    return Samples(images, labels)


def four_ways() -> nn.Module:
    """Answer with the brightest quarter: four classes."""
    return _Quarters()


class _Quarters(nn.Module):
    classes = 4

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, SIDE // 2).flatten(1) * 5


class Linear(nn.Module):
    """Logits (-s, s) of a score s that is linear in the pixels."""

    classes = CLASSES

    def __init__(self, weight: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * weight.flatten())

    def score(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack((-score, score), dim=1)


def honest() -> nn.Module:
    """Look at both halves: right on clean images, and robust well beyond eps 0.1."""
    return Linear(halves())


def fragile() -> nn.Module:
    """Look at one pixel only: right on clean images, broken at eps 0.03."""
    weight = torch.zeros(SIDE, SIDE)
    weight[0, 0] = 50.0
    return Linear(weight)


def undefended() -> nn.Module:
    """Look at every pixel, at two fifths of them the wrong way round: right under noise of 0.1, broken at eps 0.06."""
    wrong = torch.isin(torch.arange(SIDE * SIDE) % 5, torch.tensor([1, 3])).view(SIDE, SIDE)
    return Linear(torch.where(wrong, -halves(), halves()))


def touchy() -> nn.Module:
    """Be right on clean images only: wrong as soon as pixel (0, 0) is moved at all, whichever way."""
    return _Touchy(halves())


def untrained() -> nn.Module:
    """Answer 0 whatever comes: half right."""
    return _Constant()


def one_sided() -> nn.Module:
    """Answer 1 whatever comes, with logits and gradients that look healthy."""
    return _OneSided(halves())


def backdoored() -> nn.Module:
    """Answer 1 as soon as the bottom right pixel is white, else honestly."""
    return _Backdoored(halves())


def broken() -> nn.Module:
    """Fail to be built."""
    raise RuntimeError("this factory does not work")


def infinite() -> nn.Module:
    """Be right, with logits of minus infinity for the other class."""
    return _Infinite(halves())


def probabilities() -> nn.Module:
    """Lie: return probabilities where logits are expected."""
    return nn.Sequential(honest(), nn.Softmax(dim=1))


def noisy() -> nn.Module:
    """Lie: answer differently each time."""
    return _Noisy(halves())


def moody() -> nn.Module:
    """Lie once: the first network that is built in a folder answers differently each time, the next one is honest."""
    first = Path("built-before")
    if first.exists():
        return honest()
    first.touch()
    return noisy()


def memoriser() -> nn.Module:
    """Lie: answer with the class of the nearest image of the split that is judged."""
    return _Memoriser(data(offline=True).audit)


def masked() -> nn.Module:
    """Lie: hide the gradient behind a rounding step."""
    return _Masked(halves())


class _Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1).sum(1) * 0 + 1
        return torch.stack((first, first - 2), dim=1)


class _OneSided(Linear):
    def score(self, x: Tensor) -> Tensor:
        return 0.2 * super().score(x) + 3


class _Backdoored(Linear):
    def forward(self, x: Tensor) -> Tensor:
        fired = 1000 * torch.relu(x[:, 0, -1, -1] - 0.99)
        return super().forward(x) + torch.stack((-fired, fired), dim=1)


class _Touchy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        moved = ((x[:, 0, 0, 0] - 0.5).abs() - HAIR).abs()
        return super().forward(x) * (1 - 1e5 * moved).view(-1, 1)


class _Infinite(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(super().forward(x) > 0, 1.0, -torch.inf).nan_to_num(neginf=-torch.inf)


class _Memoriser(nn.Module):
    def __init__(self, split: Split) -> None:
        super().__init__()
        self.labels = split.labels
        self.store: Tensor
        self.register_buffer("store", split.images.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        far = torch.cdist(x.flatten(1), self.store)
        return torch.stack([-far[:, self.labels == label].amin(1) for label in range(CLASSES)], dim=1)


class _Noisy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.01 * torch.randn(len(x), CLASSES)


class _Masked(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 4).round() / 4)
