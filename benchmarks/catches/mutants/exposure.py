"""Weaknesses that the check ``exposure`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

MUTANTS: tuple[Mutant, ...] = ()
