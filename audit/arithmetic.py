"""Cheap arithmetic, which steers searches and never decides: bfloat16 where the CPU has it, and fused operations.

Half of the time of a forward pass on a hundred small images goes into what stands between the convolutions, each result
written to memory and read again; fused by oneDNN, it takes a third to a half as long. For this the network is traced. A
trace is one path through it, so it is used only where there is no other (no value of an image decides what is
computed), and held against the network in float32 again and again: where they differ, it is given up. What counts is
asked of the network itself, in float32.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

PLAIN_FIRST = 10  # questions that are not worth a trace
PROFILED = 3  # times that a trace is run before its operations are fused for a number of images
COMPARED_EVERY = 50  # questions with the same number of images, the first of them included
# Cheap logits steer a search where they are within this share of an image's greatest logit; margins below it are looked
# at again in float32. Twice as much as bfloat16 was ever off by, in 64,000 looks at both released networks (0.9 per
# cent; half of them by 0.1 or less).
NARROW = 0.02


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a CPU computes in bfloat16 natively; emulated, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def steers(cheap: Tensor, exact: Tensor) -> bool:
    """Tell whether cheap logits (N, classes) are as close to those in float32, image by image, as a search needs."""
    if cheap.shape != exact.shape:
        return False
    apart = (cheap.float() - exact.float()).abs().amax(1)
    return bool((apart <= NARROW * exact.float().abs().amax(1).clamp(min=1.0)).all())


class Fused:
    """A network's bfloat16 forward pass on a CPU: from a trace where it can be had, else from the network.

    What it answers hangs on the questions since :meth:`forget`, and on nothing before.
    """

    def __init__(self, network: nn.Module) -> None:
        """Trace nothing yet."""
        self._network = network
        self.forget()

    def forget(self) -> None:
        """Begin anew, as an attack does on each block of images."""
        self._traced: Any = None
        self._given_up = False
        self._asked = 0
        self._alike: dict[torch.Size, int] = {}

    @property
    def fusing(self) -> bool:
        """Tell whether answers come from a trace."""
        return self._traced is not None and not self._given_up

    def logits(self, x: Tensor) -> Tensor:
        """Return the network's bfloat16 answer to (N, C, H, W) images, without gradients."""
        self._asked += 1
        if self._asked > PLAIN_FIRST and self._traced is None and not self._given_up:
            self._traced = _trace(self._network, x)
            self._given_up = self._traced is None
        if not self.fusing:
            return self._plain(x)
        place = self._alike[x.shape] = self._alike.get(x.shape, -1) + 1
        try:
            found: Tensor = self._traced(x)
            for _ in range(0 if place else PROFILED):
                found = self._traced(x)
        except Exception:  # fused for other shapes than it can take
            self._given_up = True
            return self._plain(x)
        if place % COMPARED_EVERY == 0 and not steers(found, self._network(x)):
            self._given_up = True
            return self._plain(x)
        return found

    def _plain(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            answer: Tensor = self._network(x)
        return answer


def _trace(network: nn.Module, x: Tensor) -> Any:
    """Return a network as fused operations; None where an image decides what is computed, or it cannot be traced."""
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", jit.TracerWarning)  # "the trace might not generalize"
        try:
            jit.enable_onednn_fusion(True)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                return jit.freeze(jit.trace(network, x, check_trace=False))
        except Exception:  # foreign code is traced: whatever it raises, there is no trace
            return None
