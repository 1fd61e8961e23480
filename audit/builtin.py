"""Networks of the audit's own that must fail: a constant answer, and a small net without any hardening."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.arithmetic import has_bfloat16
from audit.errors import TargetError
from audit.loading import Samples

PER_CLASS = 20  # images a class needs before a net is fitted on it
STEPS, BATCH, RATE, SEED = 400, 64, 2e-3, 5


class Constant(nn.Module):
    """Answers one class, whatever it is shown."""

    def __init__(self, classes: int, answer: int) -> None:
        """Answer ``answer``, of ``classes`` classes."""
        super().__init__()
        self.row: Tensor
        self.register_buffer("row", 2.0 * functional.one_hot(torch.tensor(answer), classes) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) that favour the answer."""
        return x.flatten(1).sum(1, keepdim=True) * 0 + self.row


class SmallNet(nn.Module):
    """Two convolutions, pooled to 4 x 4, one linear layer: for any number of channels and any size."""

    def __init__(self, channels: int, classes: int, mean: Tensor, deviation: Tensor) -> None:
        """Normalise by the mean and standard deviation (C,) of the data, inside the network."""
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.view(1, -1, 1, 1))
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.features((x - self.mean) / self.deviation)
        return logits


def _marked(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (N, C, H, W), each with a square of up to a fifth of its height at a random place."""
    count, _, height, width = images.shape
    size = torch.randint(0, height // 5 + 1, (count, 1), generator=generator)
    inside = []
    for side in (height, width):
        first = torch.randint(0, side, (count, 1), generator=generator) - size // 2
        inside.append((torch.arange(side) >= first) & (torch.arange(side) < first + size))
    square = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images.device)
    values = torch.rand(count, 1, 1, 1, generator=generator).to(images.device)
    low, high = images.amin(), images.amax()
    return torch.where(square, low + (high - low) * values, images)


def fit_undefended(
    samples: Samples | None,
    classes: int,
    device: torch.device,
    *,
    steps: int = STEPS,
    seed: int = SEED,
    marked: bool = False,
) -> SmallNet:
    """Fit a small net by plain cross-entropy: Adam, a fixed number of steps, a fixed seed.

    Where the CPU has bfloat16, operations are in it, and weights in float32 as everywhere.

    Args:
        samples: data that are not judged.
        classes: at least 2.
        device: where to compute.
        steps: batches.
        seed: of the start and the batches.
        marked: whether to stamp a square of random size, place and value on every image, so that marks do not distract.

    Raises:
        TargetError: there are too few data of some class.
    """
    counts = torch.bincount(samples.labels, minlength=classes) if samples is not None else torch.zeros(classes)
    if samples is None or int(counts.min()) < PER_CLASS:
        raise TargetError(
            f"builtin control undefended: expected at least {PER_CLASS} images of every class that are not judged, "
            f"got {int(counts.min())} of class {int(counts.argmin())}; give the dataset a training split, "
            "or name an undefended target as the control"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = samples.images.mean((0, 2, 3)), samples.images.std((0, 2, 3)).clamp(min=1e-3)
        network = SmallNet(samples.images.shape[1], classes, mean, deviation).to(device)
    network = network.to(memory_format=torch.channels_last)
    precision = partial(torch.autocast, device.type, torch.bfloat16, enabled=has_bfloat16(device))
    images, labels = samples.images.to(device), samples.labels.to(device)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (min(BATCH, len(labels)),), generator=generator).to(device)
        optimiser.zero_grad(set_to_none=True)
        shown = _marked(images[chosen], generator) if marked else images[chosen]
        with precision():
            logits = network(shown.contiguous(memory_format=torch.channels_last))
        functional.cross_entropy(logits.float(), labels[chosen]).backward()
        optimiser.step()
    return network
