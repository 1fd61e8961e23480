"""Ids of public catalogues that requirements and threats refer to: what a well-formed one is. Pure.

MITRE ATLAS is pinned to version 5.6.0 (2026): 170 techniques and sub-techniques, 35 mitigations. An id of another
version is none here, so that a renumbered technique is looked up again and not silently misread. Of CWE and of NIST AI
100-2 only the form is checked.
"""

from __future__ import annotations

import re

# techniques of ATLAS 5.6.0 run from T0000 to T0112 without these
_GONE = frozenset({9, 22, 23, 26, 27, 28, 30, 32, 33, 38, 39, 45})
_LAST_TECHNIQUE = 112
_LAST_MITIGATION = 34
# how many sub-techniques a technique has; they are numbered from .000
_SUBTECHNIQUES = {
    0: 3, 2: 3, 5: 3, 8: 6, 10: 6, 11: 4, 16: 3, 17: 1, 18: 3, 24: 3, 34: 3, 43: 5, 48: 5, 51: 3, 52: 2, 67: 1, 69: 3,
    80: 2, 84: 4, 85: 2, 91: 1, 95: 1, 112: 2,
}  # fmt: skip
ATLAS = frozenset(
    [f"AML.T{number:04}" for number in range(_LAST_TECHNIQUE + 1) if number not in _GONE]
    + [f"AML.T{number:04}.{sub:03}" for number, count in _SUBTECHNIQUES.items() for sub in range(count)]
    + [f"AML.M{number:04}" for number in range(_LAST_MITIGATION + 1)]
)

CWE = re.compile(r"CWE-[1-9]\d{0,3}")
OWASP = re.compile(r"ML(0[1-9]|10):2023")
NIST = re.compile(r"NISTAML\.0[1-5]\d?")


def problem(reference: str) -> str | None:
    """Return what is wrong with a reference, None if nothing is.

    Source: CWE; OWASP Machine Learning Security Top Ten 2023; MITRE ATLAS 5.6.0; NIST AI 100-2 E2025, whose attacks are
    numbered ``NISTAML.011``, their classes ``NISTAML.01`` to ``.05``.
    """
    if reference.startswith("AML."):
        return None if reference in ATLAS else f"{reference} is no technique or mitigation of MITRE ATLAS 5.6"
    if any(form.fullmatch(reference) for form in (CWE, OWASP, NIST)):
        return None
    return f"expected CWE-502, ML06:2023, AML.T0011.000 or NISTAML.022, or the like (got {reference!r})"
