"""The STRIDE register: every element x category cell answered, no claim without a verdict, nothing out of date."""

from audit.register.claims import Seen, cell_count, holes, out_of_date, unclaimed
from audit.register.reading import read_register
from audit.register.records import Register, Threat, ThreatStatus
from audit.register.shown import STATES, matrix, state_of

__all__ = [
    "STATES",
    "Register",
    "Seen",
    "Threat",
    "ThreatStatus",
    "cell_count",
    "holes",
    "matrix",
    "out_of_date",
    "read_register",
    "state_of",
    "unclaimed",
]
