"""What iterated attacks share: a batch whose samples leave as they break, gradients, steps and random starts.

Nothing here decides a verdict. A sample leaves when the target misclassifies it in float32, so a cheaper arithmetic may
steer the search and never ends it. Against a surrogate or a randomised target no sample leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audit import metrics
from audit.arithmetic import NARROW
from audit.attacks.interface import Moved
from audit.loading import Samples
from audit.records import Knowledge, Norm, ThreatModel

if TYPE_CHECKING:
    from audit.target import ScoreTarget, WhiteBoxTarget

# A small batch stays in the cache of a CPU: large ones are up to four times slower per image. A GPU wants them large.
CPU_BATCH, GPU_BATCH = 100, 1000
# On a GPU asking whether a sample broke stalls the queue, so samples leave only every so many steps.
GPU_LOOKS = 10
# The last steps of a search go in float32, this share of them: it costs next to no time, and on both released networks
# bfloat16 steps lose nothing then, nor did they without it (benchmarks/README.md).
EXACT_STRETCH = 0.125
# A sample leaves once its margin is below this share of the greatest logit: in another batch a convolution may round
# otherwise, and what was hardly misclassified here might stand there.
SURE = 1e-5


def run(
    target: ScoreTarget, samples: Samples, threat_model: ThreatModel, attack_batch: Callable[[Search], None]
) -> Moved:
    """Attack samples batch by batch, in a size that suits the device."""
    size = CPU_BATCH if target.device.type == "cpu" else GPU_BATCH
    searches = []
    for start in range(0, len(samples), size):
        batch = Samples(samples.images[start : start + size], samples.labels[start : start + size])
        search = Search(target, batch, threat_model)
        attack_batch(search)
        searches.append(search.finish())
    if not searches:
        return Moved(samples.images.clone(), samples.labels.clone())
    return Moved(torch.cat([one.images for one in searches]), torch.cat([one.steps for one in searches]))


class Search:
    """One batch under attack.

    ``x`` (n, C, H, W) and ``y`` (n,) are the originals of the samples that still stand, on the target's device. An
    attack keeps its own state for the same n rows, and drops the rows that :meth:`look` says have left.
    """

    def __init__(self, target: ScoreTarget, batch: Samples, threat_model: ThreatModel) -> None:
        """Start with every sample of the batch standing."""
        self.target, self.norm, self.eps = target, threat_model.norm, threat_model.eps
        self.x, self.y = batch.images.to(target.device), batch.labels.to(target.device)
        # misleading a surrogate, or one draw of a randomised target, is not the aim: there the whole way is gone
        self.leaving = threat_model.knowledge is not Knowledge.TRANSFER and target.draws == 1
        self._every = 1 if target.device.type == "cpu" else GPU_LOOKS
        self._looks = self._spent = 0
        self._least = torch.full((len(self.y),), torch.inf, device=target.device)  # margins, where nobody leaves
        self._rows = torch.arange(len(self.y), device=target.device)
        self._images, self._steps = self.x.clone(), torch.zeros_like(self.y)
        self._last = self._rows, self.x  # who was looked at last, and as what
        self._found = torch.zeros(len(self.y), dtype=torch.bool, device=target.device)  # whose image is kept
        self._sure = self._found.clone()  # who is broken beyond rounding, and leaves

    def __len__(self) -> int:
        """Return how many samples still stand."""
        return len(self.y)

    def look(
        self,
        moved: Tensor,
        logits: Tensor,
        step: int,
        *,
        within: Tensor | None = None,
        misled: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | None:
        """Keep the images that mislead the target.

        Args:
            moved: (n, C, H, W), one for each standing sample.
            logits: (n, classes) of them, cheap ones will do.
            step: steps or queries spent so far.
            within: (n,) bool, which of them lie inside the budget; None for all.
            misled: what :meth:`misleads` says of them, where that is known.

        Returns:
            None when every row stays, else the (n,) bool mask of the rows that stay.
        """
        self._spent, self._last = step, (self._rows, moved)
        if self.leaving:
            wrong, sure = self.misleads(moved, logits) if misled is None else misled
            fell = wrong if within is None else wrong & within
            if self._every == 1 and not bool(fell.any()):
                return None
            fell = fell & ~self._sure[self._rows]
            self._sure[self._rows] |= fell & sure
        else:  # of all images looked at, the one of the least margin is taken
            left = margins(logits, self.y)
            fell = left < self._least if within is None else within & (left < self._least)
            self._least = torch.where(fell, left, self._least)
        chosen = fell.view(-1, *[1] * (self.x.ndim - 1))
        self._images[self._rows] = torch.where(chosen, moved, self._images[self._rows])
        self._steps[self._rows] = torch.where(fell, step, self._steps[self._rows])
        self._found[self._rows] |= fell
        self._looks += 1
        return None if self._looks % self._every else self.drop()

    def take(self, moved: Tensor) -> None:
        """Take (n, C, H, W) images as they are: the only step of an attack of one step."""
        self._images[self._rows], self._spent, self._last = moved, 1, (self._rows, moved)

    def drop(self) -> Tensor | None:
        """Let the broken samples leave; returns as :meth:`look` does."""
        if not self.leaving:
            return None
        stay = ~self._sure[self._rows]
        if bool(stay.all()):
            return None
        self.x, self.y, self._rows = self.x[stay], self.y[stay], self._rows[stay]
        return stay

    def finish(self) -> Moved:
        """Return what was found, on the CPU; where nothing was, what was looked at last.

        Whoever judges the images afterwards learns nothing of originals: a target that remembers its answers lets no
        search find anything.
        """
        steps = torch.where(self._found, self._steps, self._spent)
        rows, moved = self._last
        unfound = (~self._found[rows]).view(-1, *[1] * (moved.ndim - 1))
        self._images[rows] = torch.where(unfound, moved, self._images[rows])
        return Moved(self._images.cpu(), steps.cpu())

    def project(self, moved: Tensor) -> Tensor:
        """Move images of the standing samples into the eps-ball and the pixel box."""
        return metrics.project(self.x, moved, self.norm, self.eps, self.target.bounds)

    def misleads(self, moved: Tensor, logits: Tensor, asked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return which images are misclassified in float32, and which beyond rounding; both (n,) bool.

        Cheap logits only narrow down whom to ask again; of images that are not ``asked`` about, they are all
        that is said.
        """
        if self.target.exact:
            return _wrong(logits, self.y)
        left = margins(logits, self.y)
        doubtful = left < NARROW * logits.abs().amax(1).clamp(min=1.0)
        wrong, sure = torch.zeros_like(doubtful), torch.zeros_like(doubtful)
        if asked is not None:
            doubtful, wrong = doubtful & asked, (left < 0) & ~asked
        if bool(doubtful.any()):
            with torch.no_grad():
                wrong[doubtful], sure[doubtful] = _wrong(self.target.logits(moved[doubtful]), self.y[doubtful])
        return wrong, sure


def _wrong(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    wrong = logits.argmax(1) != y
    return wrong, wrong & (margins(logits, y) < -SURE * logits.abs().amax(1))


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return (n,) the logit of the true class less the greatest other one; negative where misclassified."""
    true = logits.gather(1, y.view(-1, 1)).squeeze(1)
    others = logits.scatter(1, y.view(-1, 1), -torch.inf)
    return true - others.amax(1)


def gradient(
    target: WhiteBoxTarget, x: Tensor, loss: Callable[[Tensor], Tensor], *, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate a per-sample loss of the logits by the pixels, in float32 throughout if ``exact``.

    Returns:
        Logits (n, classes), losses (n,) and gradients (n, C, H, W), finite; zeros where the target hides them.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = target.logits(x) if exact else target.step_logits(x)
        losses = loss(logits)
        if not losses.requires_grad:
            return logits, losses, torch.zeros_like(x)
        (found,) = torch.autograd.grad(losses.sum(), x)
    return logits.detach(), losses.detach(), found.nan_to_num_(0.0, 0.0, 0.0)


def in_float32(step: int, steps: int) -> bool:
    """Tell whether a step, counted from 0, belongs to the last stretch of a search, which goes in float32."""
    return step >= (1 - EXACT_STRETCH) * steps


def direction(gradients: Tensor, norm: Norm) -> Tensor:
    """Return the step of length one that ascends fastest: the sign for Linf, the unit vector for L2."""
    if norm is Norm.LINF:
        return gradients.sign()
    return gradients / length(gradients).clamp(min=1e-12)


def length(delta: Tensor) -> Tensor:
    """Return L2 lengths, (n, 1, 1, 1) for (n, C, H, W)."""
    lengths: Tensor = delta.flatten(1).norm(dim=1)
    return lengths.view(-1, *[1] * (delta.ndim - 1))


def random_start(search: Search, generator: torch.Generator) -> Tensor:
    """Return points drawn uniformly from the eps-balls, clipped to the box."""
    shape = search.x.shape
    if search.norm is Norm.LINF:
        shift = (2 * torch.rand(shape, generator=generator) - 1) * search.eps
    else:
        shift = torch.randn(shape, generator=generator)
        dimensions = shift[0].numel() if len(shift) else 1
        radius = torch.rand(len(shift), generator=generator).pow(1 / dimensions).view(-1, 1, 1, 1)
        shift = shift / length(shift).clamp(min=1e-12) * radius * search.eps
    return search.project(search.x + shift.to(search.x.device))


def select(stay: Tensor | None, *state: Tensor) -> Iterator[Tensor]:
    """Return the rows of each tensor that stay."""
    return (one if stay is None else one[stay] for one in state)
