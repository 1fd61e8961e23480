"""What is attacked: the Target protocols, and the PyTorch network behind them.

The type says how much an adversary knows: ``Target`` answers with labels only, ``WhiteBoxTarget`` adds differentiable
logits. A target is frozen: eval mode, parameters without gradients.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from audit.errors import IntegrityError, TargetError
from audit.loading import resolve

PREDICT_BATCH = 100


class Target(Protocol):
    """Something that predicts."""

    name: str
    bounds: tuple[float, float]
    classes: int
    digest: str

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N,) int64 classes of (N, C, H, W) float32 images in bounds."""
        ...


class WhiteBoxTarget(Target, Protocol):
    """A target whose logits can be differentiated."""

    device: torch.device

    def logits(self, x: Tensor) -> Tensor:
        """Return the (N, classes) logits, differentiable with respect to x."""
        ...


class TorchTarget:
    """A PyTorch network as a white-box target."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        classes: int,
        digest: str,
        bounds: tuple[float, float],
        device: torch.device,
    ) -> None:
        """Freeze the network on the device: eval mode, no parameter gradients."""
        self.name, self.classes, self.digest, self.bounds, self.device = name, classes, digest, bounds, device
        self._network = network.to(device).eval().requires_grad_(False)

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, classes) float32 logits.

        Raises:
            TargetError: the network returns another shape.
        """
        found: Tensor = self._network(x.to(self.device))
        if found.shape != (len(x), self.classes):
            raise TargetError(
                f"target {self.name}: expected logits of shape ({len(x)}, {self.classes}), got {tuple(found.shape)}; "
                "a factory returns a network that maps (N, C, H, W) to (N, classes)"
            )
        return found.float()

    def all_logits(self, x: Tensor) -> Tensor:
        """Return the logits of any number of images, in batches, without gradients, on the CPU.

        Raises:
            TargetError: pixels outside the bounds.
        """
        low, high = torch.tensor(self.bounds, dtype=torch.float32).tolist()  # as float32 pixels are rounded
        if len(x) and (float(x.min()) < low or float(x.max()) > high):
            raise TargetError(f"target {self.name}: expected pixels in [{low:g}, {high:g}], got [{x.min()}, {x.max()}]")
        with torch.no_grad():
            return torch.cat([self.logits(batch).cpu() for batch in x.split(PREDICT_BATCH)])

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N,) int64 classes."""
        return self.all_logits(x).argmax(1)


def build_target(
    name: str,
    factory: str,
    weights: Path | None,
    sha256: str | None,
    *,
    classes: int,
    bounds: tuple[float, float],
    device: torch.device,
) -> TorchTarget:
    """Build a network with a factory and load verified safetensors into it.

    The digest covers the factory's name, the source files of every module, and every parameter and buffer: another
    architecture or other weights are another target.

    Raises:
        IntegrityError: the weight file is missing, not safetensors, or not the pinned one.
        TargetError: the weights do not fit the network.
    """
    make = resolve(factory, f"targets.{name}.factory")
    network = make()
    if weights is not None:
        state = load_weights(weights, sha256)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise TargetError(f"target {name}: {weights.name} does not fit {factory}: {first}") from error
    digest = _digest(factory, make, network)
    return TorchTarget(name, network, classes=classes, digest=digest, bounds=bounds, device=device)


def _digest(factory: str, make: Callable[..., object], network: nn.Module) -> str:
    """Return the SHA-256 of the factory's name, the sources that define the network, and its parameters and buffers."""
    digest = hashlib.sha256(factory.encode())
    defining = {inspect.getfile(make), *(inspect.getfile(type(module)) for module in network.modules())}
    library = str(Path(torch.__file__).parent)
    for source in sorted(source for source in defining if not source.startswith(library)):
        digest.update(Path(source).read_bytes())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def load_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Load a weight file, as every target of this harness does: read once, verify, parse the verified bytes.

    Raises:
        IntegrityError: the digest differs, or the bytes are not safetensors.
    """
    content = _read_verified(path, sha256)
    try:
        state: dict[str, Tensor] = parse_safetensors(content)
    except SafetensorError as error:
        raise IntegrityError(f"{path.name}: expected safetensors, got {error}; pickles are never loaded") from error
    return state


def _read_verified(path: Path, sha256: str | None) -> bytes:
    """Read a file once and return the bytes whose digest was checked.

    Raises:
        IntegrityError: it cannot be read, or its SHA-256 is not the pinned one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path.name}: expected a weight file, got {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise IntegrityError(
            f"{path.name}: expected SHA-256 {sha256} (pinned in the policy), got {actual}; "
            "restore the file, or pin the new digest after review"
        )
    return content
