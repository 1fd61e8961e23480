"""The whole comparison, section by section. What counts is said in the package. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit.compare.changes import Change, Comparison, Section, differences, transition
from audit.compare.figures import figures
from audit.compare.policies import policies, stated
from audit.compare.reading import Audit
from audit.compare.verdicts import findings, judged, verdicts

EVERY_RUN = frozenset({"started", "finished", "command", "run"})
BILLS = frozenset({"sbom", "mlbom"})  # they repeat the environment, the model and the figures


def compare(old: Audit, new: Audit) -> Comparison:
    """Return what changed: requirements in the order of the new policy, after them those that only the old one has."""
    ids = list(dict.fromkeys(name for one in (new, old) for name in (*stated(one), *judged(one))))
    found = {
        "verdicts": verdicts(old, new, ids),
        "figures": figures(old, new, ids),
        "findings": findings(old, new, ids),
        "policy": policies(old, new, ids),
        "model": _plain(old.target, new.target, counts=True),
        "exhibits": _exhibits(old, new),
        "environment": _plain(_environment(old), _environment(new), counts=False),
    }
    sections = [Section(title, tuple(changes)) for title, changes in found.items()]
    return Comparison(tuple(section for section in sections if section.changes))


def _plain(old: Any, new: Any, *, counts: bool) -> Iterator[Change]:
    for path, was, now in differences(old, new):
        yield Change(path, transition(was, now), counts)


def _environment(audit: Audit) -> dict[str, Any]:
    kept = {key: value for key, value in audit.provenance.items() if key not in EVERY_RUN}
    return {"schema_version": audit.schema_version, **kept}


def _exhibits(old: Audit, new: Audit) -> Iterator[Change]:
    """Yield a line for each exhibit that came, went, or shows something else: the first difference stands for all."""
    before, after = (
        {(one.kind, one.title): one.data for one in audit.exhibits if one.kind not in BILLS} for audit in (old, new)
    )
    for kind, title in dict.fromkeys((*after, *before)):
        was, now = before.get((kind, title)), after.get((kind, title))
        if was is None or now is None:
            yield Change(kind, f"{title}: in the {'old' if now is None else 'new'} audit only", counts=False)
            continue
        changed = [one for one in differences(was, now) if not _is_of_one_run(one[0])]
        if changed:
            path, first, then = changed[0]
            more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
            yield Change(kind, f"{title}: {path}: {transition(first, then)}{more}", counts=False)


def _is_of_one_run(path: str) -> bool:
    leaf = path.rpartition(".")[2]
    return "seconds" in leaf or leaf in {"measured_at", "from_store"}
