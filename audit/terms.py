"""How long what is accepted may last: a waiver, or a threat that is accepted or transferred. Pure."""

from __future__ import annotations

from datetime import date, timedelta

LONGEST = timedelta(days=366)


def too_long(expires: date, today: date) -> str | None:
    """Say by which day it has to end, if it is to end later than 366 days from today; None if it is not."""
    latest = today + LONGEST
    return None if expires <= latest else f"at most {LONGEST.days} days, so until {latest} at the latest"
