"""Work begun before a requirement asks for it, so that no core waits: training, controls, detectors, inversions.

What is begun leaves its result where the requirement looks first: trained weights in the trainer's cache, everything
else in the store. Asked for meanwhile, it is waited for; so nothing here decides anything, and nothing that is kept is
done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from audit.evasion import evasion_ahead
from audit.poisoning.examine import poisoning_ahead
from audit.records import Family
from audit.requirements import Requirement
from audit.session import AuditSession
from audit.workers import Work, Workers

AHEAD: dict[Family, Callable[[Any, AuditSession], Iterator[Work]]] = {
    Family.EVASION: evasion_ahead,
    Family.POISONING: poisoning_ahead,
}


def start(requirements: Iterable[Requirement], session: AuditSession) -> None:
    """Start processes that do ahead what the requirements will ask for, in their turn; one core is left to this one.

    With ``--retrain`` no cache is believed, so nothing is done ahead.
    """
    workers = session.laboratory.workers
    if session.options.retrain or session.options.device.type != "cpu" or not workers.parallel:
        return
    pieces, taken = list(_pieces(sorted(requirements, key=lambda one: one.turn), session)), workers.counter()
    for _ in range(min(workers.count - 1, len(pieces))):
        workers.ahead("work ahead", partial(_work_off, pieces, taken, workers), computes=True)


def _pieces(requirements: Iterable[Requirement], session: AuditSession) -> Iterator[Work]:
    trained = set[str]()
    for one in requirements:
        for name in one.targets:
            if session.spec(name).trained_here and name not in trained:
                trained.add(name)
                yield partial(session.weights, name)
        if one.family in AHEAD:
            yield from AHEAD[one.family](one, session)


def _work_off(pieces: list[Work], taken: Synchronized[int], workers: Workers) -> str:
    while True:
        workers.give_way()
        with taken.get_lock():
            place, taken.value = taken.value, taken.value + 1
        if place >= len(pieces):
            return ""
        with suppress(Exception):  # asked for again, it is told
            pieces[place]()
