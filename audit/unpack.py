"""Run as a child process: a scanned torch state dict in, safetensors out. Imports nothing of this project."""

from __future__ import annotations

import sys
from typing import Any


def main(source: str, result: str) -> int:
    """Load ``source`` with ``weights_only=True`` and write its tensors to ``result``; returns the exit code."""
    import torch
    from safetensors.torch import save_file

    loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(one, torch.Tensor) for one in loaded.values()):
        sys.stderr.write("not a dictionary of tensors, nor one under the key state_dict\n")
        return 1
    save_file({str(name): tensor.detach().contiguous().clone() for name, tensor in loaded.items()}, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
