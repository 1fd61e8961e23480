"""Weaknesses that the check ``overload`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "no limit to what is predicted at once, and no refusal",
        "overload",
        ("no refusal",),
        (Patch("limits.py", "if self.taken >= self._all or self._taken[client] >= self._each:", "if False:"),),
    ),
    Mutant(
        "a refusal does not say when to try again",
        "overload",
        ("no Retry-After",),
        (Patch("problems.py", 'are being computed already.", retry_after=1)', 'are being computed already.")'),),
    ),
)
