"""Weaknesses that the check ``access`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

MUTANTS: tuple[Mutant, ...] = ()
