"""Which way a requirement went when one place of it changed: harder to meet, easier, or only other words. Pure.

What is not known to be as hard counts as loosened: another attack, another control, another scanner, other data.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from packaging.version import Version


class Way(StrEnum):
    """Which way a change goes."""

    LOOSENED = "LOOSENED"
    TIGHTENED = "TIGHTENED"
    CHANGED = "CHANGED"


# places with a number, by which way is looser: downwards or upwards; what triggers are compared with is not among them:
# more of it raises the yardstick that is taken off, and less of it is less to compare with
LOOSER = {
    "bound.at_least": -1,
    "bound.at_most": 1,
    "bound.confidence": -1,
    "threat_model.eps": -1,
    "samples": -1,
    "samples.quick": -1,
    "samples.full": -1,
    "control.samples": -1,
    "attack.steps": -1,
    "attack.restarts": -1,
    "attack.queries": -1,
    "attack.targets": -1,
    "steps": -1,
    "most_lost": 1,
    "max_age_days": 1,
    "stale_days": 1,
    "requests": -1,
    "slow_clients": -1,
    "clients": -1,
    "seconds": -1,
    "answers": -1,
    "decimals": -1,
}
# places with a word, the strictest last
STRICTER = {
    "if_not_run": ("report", "block"),
    "threat_model.knowledge": ("transfer", "black-box label", "black-box score", "white-box"),
    "threat_model.norm": ("l2", "linf"),  # at the same eps the one ball lies in the other
}
# places that may be there or not, and ask for more where they are
DEMANDS = ("bound.at_least", "bound.at_most", "at_least.", "raw_files.")
# places that nothing is judged by
WORDS = (
    "title",
    "why",
    "severity",
    "references",
    "threat_model.goal",
    "threat_model.capability",
    "seed",
)


def way(path: str, old: Any, new: Any) -> Way:
    """Return which way a requirement went.

    Args:
        path: the place, as YAML names it.
        old: what stood there, None for nothing.
        new: what stands there.
    """
    if path in WORDS:
        return Way.CHANGED
    if path in STRICTER:
        return _along(STRICTER[path], old, new)
    if path.startswith(DEMANDS) and (old is None or new is None):
        return Way.TIGHTENED if old is None else Way.LOOSENED
    if path.startswith("at_least."):
        return Way.TIGHTENED if Version(new) > Version(old) else Way.LOOSENED
    if path in LOOSER and _is_number(old) and _is_number(new):
        return Way.LOOSENED if (_number(new) - _number(old)) * LOOSER[path] > 0 else Way.TIGHTENED
    return Way.LOOSENED


def _along(ladder: tuple[str, ...], old: Any, new: Any) -> Way:
    if old not in ladder or new not in ladder:
        return Way.CHANGED if old is None or new is None else Way.LOOSENED
    return Way.LOOSENED if ladder.index(new) < ladder.index(old) else Way.TIGHTENED


def _is_number(value: Any) -> bool:
    return value == "all" or (isinstance(value, float | int) and not isinstance(value, bool))


def _number(value: Any) -> float:
    return math.inf if value == "all" else float(value)
