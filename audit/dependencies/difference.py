"""Ways in which an environment is not what was locked, and what could not be looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audit.records import Finding, Severity, Suppression

SHOWN = 4  # names in a message


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an environment is not what a lock says. ``path`` is that of an installed file or folder."""

    rule: str
    package: str
    message: str
    line: int | None = None
    path: str | None = None

    def finding(self, lock: str) -> Finding:
        """Return it as a finding, in a lock unless it is about an installed file."""
        severity = Severity.MEDIUM if self.rule == "missing" else Severity.HIGH
        return Finding(
            tool="lock",
            rule=self.rule,
            severity=severity,
            path=self.path or lock,
            line=self.line,
            message=self.message,
        )


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an inspection of installed files or of the search path found, what it could not look at, and its table."""

    differences: tuple[Difference, ...] = ()
    doubts: tuple[str, ...] = ()
    accepted: tuple[Suppression, ...] = ()
    shown: dict[str, Any] = field(default_factory=dict)

    def __add__(self, other: Inspected) -> Inspected:
        """Return both together."""
        return Inspected(
            (*self.differences, *other.differences),
            (*self.doubts, *other.doubts),
            (*self.accepted, *other.accepted),
            self.shown | other.shown,
        )


def listed(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(sorted(names)[:SHOWN]) + more
