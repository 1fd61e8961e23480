"""What lasts from one requirement to the next."""

from __future__ import annotations

from audit.lasting import Lasting


class Thing:
    def __init__(self, closed):
        self.closed = closed

    def close(self):
        self.closed.append(self)


def test_it_is_made_once_and_closed_last_first():
    closed, lasting = [], Lasting()
    first = lasting.get("a", lambda: Thing(closed))
    second = lasting.get("b", lambda: Thing(closed))
    assert lasting.get("a", lambda: Thing(closed)) is first
    lasting.close()
    assert closed == [second, first]
    assert lasting.get("a", lambda: Thing(closed)) is not first
