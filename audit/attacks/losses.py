"""What attacks along gradients raise in the place of cross-entropy, so that the scale of logits hides no gradient.

The gradient of cross-entropy by the pixels is (1 - p) times that of the log odds, p the true class's probability: image
by image the same direction, until 1 - p rounds to zero. A last layer multiplied by a thousand changes no answer, and
does just that.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Least and greatest spread of an image's logits (the greatest less the least) within which gradients weigh the wrong
# classes as cross-entropy does. Those of the released networks on their images are 10 to 48, and left as they are.
SPREADS = (7.0, 50.0)
LEAST_SPREAD = 1e-12  # so that nothing overflows where all logits are the same


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """Return (n,) the log odds of a wrong answer, log((1 - p) / p), to be raised.

    Its gradient is that at logits brought to a spread within ``SPREADS``: in float32 neither those of 1e-9 nor those of
    1e30 lose it.

    Args:
        logits: (n, classes); minus infinity is allowed.
        y: (n,) the true classes.
    """
    steered, found = _log_odds(logits * _factor(logits.detach()), y), _log_odds(logits.detach(), y)
    return steered + (found - steered.detach())


def _log_odds(logits: Tensor, y: Tensor) -> Tensor:
    true = y.view(-1, 1)
    wrong = logits.scatter(1, true, -torch.inf).logsumexp(1)
    return wrong - logits.gather(1, true).squeeze(1)


def _factor(logits: Tensor) -> Tensor:
    """Return (n, 1) what brings an image's logits to a spread within ``SPREADS``; 1 where it is."""
    finite = logits.isfinite()
    greatest = logits.where(finite, -torch.inf).amax(1, keepdim=True)
    least = logits.where(finite, torch.inf).amin(1, keepdim=True)
    spread = (greatest - least).clamp(LEAST_SPREAD, torch.finfo(logits.dtype).max)
    return spread.clamp(*SPREADS) / spread
