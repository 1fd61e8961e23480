"""Good files that end too early: every hundredth byte is an end."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors.torch import save

from audit.artifacts.corpus.specimen import Specimen
from audit.artifacts.corpus.zips import COMPLETE, zipped

STEP = 100


def files() -> Iterator[Specimen]:
    """Yield the beginnings of a safetensors file and of a torch archive."""
    tensors = {f"layer{number}.weight": torch.arange(32.0) for number in range(4)}
    whole = save(tensors)
    for end in range(STEP, len(whole), STEP):
        refusal = "neither in|describes 512 bytes of tensors"
        yield Specimen(f"cut-{end}.safetensors", f"safetensors cut off after {end} bytes", whole[:end], refusal)
    archive = zipped({"archive/data.pkl": COMPLETE, "archive/data/0": bytes(400), "archive/version": b"3\n"})
    for end in range(STEP, len(archive), STEP):
        yield Specimen(f"cut-{end}.pt", f"torch archive cut off after {end} bytes", archive[:end], "damaged archive")
