"""What torch computes on in an audit."""

from __future__ import annotations

import torch

from audit.errors import TargetError


def choose_device(name: str) -> torch.device:
    """Return the named device; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        TargetError: there is no such device here.
    """
    # on a GPU float32 would else mean ten bits of mantissa, and verdicts are float32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except Exception as error:  # torch raises a different type for each kind of device that is not here
        raise TargetError(f"--device: expected cpu, cuda or mps, as this machine has it (got {name!r})") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise TargetError(f"--device: expected cpu, cuda or mps (got {name!r})")
    return device
