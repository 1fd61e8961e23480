"""Cheap arithmetic, which steers searches and never decides: bfloat16 where the CPU has it, and fused operations.

Half of the time of a forward pass on a hundred small images goes into what stands between the convolutions, each result
written to memory and read again; fused by oneDNN, it takes a third to a half as long. For this the network is traced. A
trace is one path through it, so it is used only where there is no other (no value of an image decides what is
computed), and held against the network again and again: where they differ, it is given up for good. What counts is
asked of the network itself, in float32.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

COMPARED_EVERY = 50  # calls, and whenever images come in another number
ALIKE = 0.02  # by which logits may differ, as a share of the greatest; as far as bfloat16 is off (attacks/search.py)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a CPU computes in bfloat16 natively; emulated, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class Fused:
    """A network's bfloat16 forward pass on a CPU: from a trace where it can be had, else from the network."""

    def __init__(self, network: nn.Module) -> None:
        """Trace nothing yet."""
        self._network = network
        self._traced: Any = None
        self._given_up = False
        self._calls = 0
        self._sizes: set[torch.Size] = set()

    def logits(self, x: Tensor) -> Tensor:
        """Return the network's bfloat16 answer to (N, C, H, W) images, without gradients."""
        if self._traced is None and not self._given_up:
            self._traced = _trace(self._network, x)
            self._given_up = self._traced is None
        if self._given_up:
            return self._plain(x)
        self._calls += 1
        compared = x.shape not in self._sizes or self._calls % COMPARED_EVERY == 0
        self._sizes.add(x.shape)
        try:
            found: Tensor = self._traced(x)
        except Exception:  # fused for other shapes than it can take
            self._given_up = True
            return self._plain(x)
        if compared and not _alike(found, plain := self._plain(x)):
            self._given_up = True
            return plain
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


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not bool(other.isfinite().all()):
        return False
    one, other = one.float(), other.float()
    return bool((one - other).abs().amax() <= ALIKE * other.abs().amax().clamp(min=1.0))
