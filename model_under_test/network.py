"""The convolutional network under test.

Normalisation is part of the network, so that an attack's budget is stated in the pixel range [0, 1] and no
caller can forget it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MNIST_MEAN = 0.1307
MNIST_STD = 0.3081
CLASSES = 10
INPUT_SHAPE = (1, 28, 28)


class DigitCNN(nn.Module):
    """Two convolutions, two linear layers, 421,642 parameters; returns logits."""

    def __init__(self) -> None:
        """Create the layers with PyTorch's default initialisation."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 128),
            nn.ReLU(),
            nn.Linear(128, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits.

        Args:
            x: (N, 1, 28, 28) floating point in [0, 1].

        Returns:
            (N, 10) logits, not probabilities.
        """
        normalised = (x - MNIST_MEAN) / MNIST_STD
        logits: Tensor = self.classifier(self.features(normalised))
        return logits


def build() -> DigitCNN:
    """Return the network on the CPU, its weights still to be loaded."""
    return DigitCNN()


def build_untrained() -> DigitCNN:
    """Return a network with reproducible random weights: the control of the clean-accuracy requirement."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DigitCNN()
