"""The table of weaknesses, a module for each check."""

from __future__ import annotations

from benchmarks.catches.mutants import (
    access,
    agreement,
    exposure,
    log,
    malformed,
    overload,
    resources,
    tampering,
)

MUTANTS = (
    *malformed.MUTANTS,
    *resources.MUTANTS,
    *access.MUTANTS,
    *tampering.MUTANTS,
    *exposure.MUTANTS,
    *overload.MUTANTS,
    *log.MUTANTS,
    *agreement.MUTANTS,
)
