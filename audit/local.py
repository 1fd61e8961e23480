"""Networks in this process: of the audit's own, or in a process that is there for this network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audit.arithmetic import Fused
from audit.errors import TargetError
from audit.held import held
from audit.identity import parameters_digest
from audit.target import TorchTarget


class LocalTarget(TorchTarget):
    """A network in this process: of the audit's own, or in a process that is there for this network."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        classes: int,
        digest: str,
        bounds: tuple[float, float],
        device: torch.device,
        draws: int = 1,
    ) -> None:
        """Freeze the network on the device: eval mode, no parameter gradients, the fast memory layout."""
        super().__init__(name, classes=classes, digest=digest, bounds=bounds, device=device, draws=draws)
        self._network = network.to(device).eval().requires_grad_(False)
        if any(parameter.ndim == 4 for parameter in self._network.parameters()):
            self._network = self._network.to(memory_format=torch.channels_last)
        self._fused = Fused(self._network)
        self._frozen = parameters_digest(self._network)

    @property
    def network(self) -> nn.Module:
        """Return the frozen network."""
        return self._network

    def on(self, device: torch.device) -> LocalTarget:
        """Return the target on a device."""
        if device == self.device:
            return self
        return LocalTarget(
            self.name,
            self._network,
            classes=self.classes,
            digest=self.digest,
            bounds=self.bounds,
            device=device,
            draws=self.draws,
        )

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, classes) float32 logits, or the log of mean probabilities of a randomised network."""
        x = x.to(self.device)
        if self.draws == 1:
            return self._forward(x)
        shares = torch.stack([self._forward(x).log_softmax(1) for _ in range(self.draws)])
        return shares.logsumexp(0) - math.log(self.draws)  # in logarithms: nothing rounds to a flat 0 or 1

    def step_logits(self, x: Tensor) -> Tensor:
        """Return logits in the cheapest arithmetic that steers."""
        if self.exact:
            return self.logits(x)
        if self.draws == 1 and not torch.is_grad_enabled():
            return self._answer(self._fused.logits(x.to(self.device, copy=True)), len(x))
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.logits(x)

    def forget(self) -> None:
        """Forget what operations were fused."""
        self._fused.forget()

    def unchanged(self) -> bool:
        """Tell whether every parameter and buffer is what it was when the target was made."""
        return parameters_digest(self._network) == self._frozen

    def features(self, x: Tensor) -> Tensor:
        """Return the (N, D) float32 inputs of the network's last linear layer; its logits where it has none."""
        layers = [module for module in self._network.modules() if isinstance(module, nn.Linear)]
        seen: list[Tensor] = []
        hook = layers[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0])) if layers else None
        try:
            with torch.no_grad():
                logits = self.logits(x)
        finally:
            if hook is not None:
                hook.remove()
        return (seen[-1] if seen else logits).flatten(1).float().cpu()

    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Yield every tensor that the network can be seen to hold."""
        return held(self._network)

    def _forward(self, x: Tensor) -> Tensor:
        return self._answer(self._network(x.clone()), len(x))  # a copy: a network may write into what it is given

    def _answer(self, found: object, count: int) -> Tensor:
        """Count what the network was asked, and return its answer as float32."""
        if not isinstance(found, Tensor) or found.shape != (count, self.classes):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise TargetError(
                f"target {self.name}: expected logits of shape ({count}, {self.classes}), got {got}; "
                "a factory returns a network that maps (N, C, H, W) to (N, classes)"
            )
        self.passes.forward += count
        self.passes.gradient += count if found.requires_grad else 0
        return found.float()


def wrap_network(
    name: str,
    network: nn.Module,
    *,
    classes: int,
    bounds: tuple[float, float],
    device: torch.device,
    draws: int = 1,
    made_from: str = "",
) -> LocalTarget:
    """Return a network that is already there as a target; ``made_from`` says what else its answers depend on."""
    text = f"{made_from} {type(network).__name__} {draws} {parameters_digest(network)}"
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return LocalTarget(name, network, classes=classes, digest=digest, bounds=bounds, device=device, draws=draws)
