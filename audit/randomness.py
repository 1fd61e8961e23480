"""Global random state, for guests that draw from it: seeded before they run, restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's and PyTorch's global generators for the span, and leave them as they were found."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
