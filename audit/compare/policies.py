"""Policies and waivers: what changed, and which way each change goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from audit.compare.changes import Change, Comparison, Section, differences, transition
from audit.compare.definitions import Said, compared
from audit.compare.reading import Audit
from audit.compare.ways import Way

UNJUDGED = ("schema_version", "server", "exhibits")  # what a policy says of them is no requirement

Json = Mapping[str, Any]
Named = tuple[str, Said]


def stated(audit: Audit) -> dict[str, dict[str, Any]]:
    """Return the requirements as the policy states them, by id."""
    return {one.id: one.model_dump() for one in audit.policy.requirements}


def policies(old: Audit, new: Audit, ids: list[str]) -> Iterator[Change]:
    """Yield the definitions that changed, then what is said of the policy and the data, then the waivers."""
    before, after = stated(old), stated(new)
    for name in ids:
        if name in before and name in after:
            for text, way in compared(before[name], after[name]):
                yield Change(name, f"{text}{'' if way is Way.CHANGED else f' ({way})'}", counts=True)
        elif name in after and name not in old.policy.left_out:
            yield Change(name, _added(after[name])[0], counts=True)
        elif name in before and name not in new.policy.left_out:
            yield Change(name, _removed(before[name])[0], counts=True)
    for path, was, now in differences(old.policy.model_extra, new.policy.model_extra):
        if path != "chosen":  # repeats the path, with the reason
            yield Change(path, transition(was, now), counts=path == "data_digest")
    excused = ([one.model_dump(mode="json") for one in audit.waivers] for audit in (old, new))
    for name, (text, _) in of_waivers(*excused):
        yield Change(name, text, counts=True)


def of_policies(old: Json, new: Json) -> Iterator[Named]:
    """Yield what changed between two policies, by id or key, in words, and which way it went.

    Args:
        old: a whole policy as plain data, every default spelt out.
        new: another one.
    """
    before, after = ({str(one["id"]): one for one in policy["requirements"]} for policy in (old, new))
    for name in dict.fromkeys((*after, *before)):
        if name in before and name in after:
            yield from ((name, said) for said in compared(before[name], after[name]))
        else:
            yield name, _added(after[name]) if name in after else _removed(before[name])
    vouching = set(_vouching(new))
    for key in (one for one in new if one != "requirements"):
        for path, was, now in differences({key: old.get(key)}, {key: new[key]}):
            harmless = key in UNJUDGED or (key == "targets" and path.split(".")[1] not in vouching)
            yield path, (transition(was, now), Way.CHANGED if harmless else Way.LOOSENED)


def of_waivers(old: Iterable[Json], new: Iterable[Json]) -> Iterator[Named]:
    """Yield the waivers that came, went or changed, by id, in words, and which way that went."""
    before, after = ({str(one["id"]): one for one in some} for some in (old, new))
    for name in dict.fromkeys((*after, *before)):
        if name in before and name in after:
            for path, was, now in differences(before[name], after[name]):
                yield name, (f"waiver, {path}: {transition(was, now)}", _of_an_end(path, was, now))
        else:
            state, waiver = ("added", after[name]) if name in after else ("removed", before[name])
            words = f"{waiver.get('reason')} ({waiver.get('owner')}, until {waiver.get('expires')})"
            yield name, (f"waiver {state}: {words}", Way.LOOSENED if name in after else Way.TIGHTENED)


def sorted_by_way(changes: Iterable[Named]) -> Comparison:
    """Return changes in a section a way, the looser ones first; those count."""
    found = list(changes)
    sections = [
        Section(
            one.lower(), tuple(Change(name, text, one is Way.LOOSENED) for name, (text, way) in found if way is one)
        )
        for one in Way
    ]
    return Comparison(tuple(section for section in sections if section.changes))


def _added(definition: Json) -> Said:
    return f"requirement added: {definition.get('title', '')}", Way.TIGHTENED


def _removed(definition: Json) -> Said:
    return f"requirement removed: {definition.get('title', '')}", Way.LOOSENED


def _vouching(policy: Json) -> Iterator[str]:
    """Yield the targets that vouch for a check: controls, surrogates, references, what is cured, what lies behind."""
    for one in policy["requirements"]:
        for part, key in (("control", "target"), ("reference_networks", "target")):
            yield str((one.get(part) or {}).get(key))
        yield from (str(one.get(key)) for key in ("crafted_on", "cured"))
    for target in policy["targets"].values():
        yield from (str(target.get(key)) for key in ("wraps", "sanitises"))


def _of_an_end(path: str, was: Any, now: Any) -> Way:
    if path != "expires":
        return Way.CHANGED
    return Way.LOOSENED if str(now) > str(was) else Way.TIGHTENED
