"""Small clean networks that the audit fits itself: what a mark does to networks that nobody planted anything in.

They stand beside a model of which there are no reference networks. Theirs is another architecture, so they say nothing
of how much a mark should move the model, and accuse nobody. But a mark that moves every one of them as much as the
model needs no backdoor for it.
"""

from __future__ import annotations

from audit.builtin import SEED, fit_undefended
from audit.local import wrap_network
from audit.session import AuditSession
from audit.target import TorchTarget

COUNT = 3


def clean_networks(session: AuditSession) -> list[TorchTarget]:
    """Return networks fitted on data that are not judged, each with a seed of its own.

    Raises:
        TargetError: there are too few data to fit one on.
    """
    session.announce("backdoors: fitting small clean networks on data that are not judged, to compare with")
    return [_fitted(session, seed) for seed in range(SEED, SEED + COUNT)]


def _fitted(session: AuditSession, seed: int) -> TorchTarget:
    judged = session.target()
    network = fit_undefended(session.dataset.fitting, judged.classes, judged.device, seed=seed)
    return wrap_network(
        f"small clean network {seed}", network, classes=judged.classes, bounds=judged.bounds, device=judged.device
    )
