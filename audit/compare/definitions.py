"""What changed between two definitions of one requirement, and which way each change goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit.compare.changes import differences, transition
from audit.compare.ways import Way, way

# lists of what is passed over, or may be, or of what a requirement vouches for in the register: one more is looser;
# lists of what is asked: one fewer is
PASSED_OVER = ("waive", "exceptions", "locks", "scanner.accept", "scanner.exclude", "stride")
ASKED = ("triggers", "elements", "artifacts", "control.canaries")
STRONGEST_ATTACK = "autoattack"

Json = Mapping[str, Any]
Said = tuple[str, Way]


def compared(old: Json, new: Json) -> Iterator[Said]:
    """Yield in words what changed of a requirement, and which way it went.

    Args:
        old: the requirement as plain data, as a policy states it.
        new: the same one, by id, in another policy.
    """
    whole = [*_of_lists(old, new), *_of_another(old, new)]
    yield from (said for _, said in whole)
    told = {path for path, _ in whole} | {*PASSED_OVER, *ASKED}
    for path, was, now in differences(old, new):
        if not any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in told):
            yield f"{path}: {transition(was, now)}", way(path, was, now)


def _of_lists(old: Json, new: Json) -> Iterator[tuple[str, Said]]:
    """Yield entries that a list gained or lost."""
    for path in (*PASSED_OVER, *ASKED):
        before, after = (_entries(_at(one, path)) for one in (old, new))
        more, fewer = (Way.LOOSENED, Way.TIGHTENED) if path in PASSED_OVER else (Way.TIGHTENED, Way.LOOSENED)
        for entry in after:
            if entry not in before:
                yield path, (f"{path}: added {entry}", more)
        for entry in before:
            if entry not in after:
                yield path, (f"{path}: removed {entry}", fewer)


def _of_another(old: Json, new: Json) -> Iterator[tuple[str, Said]]:
    """Yield another attack, scanner or control: their parameters do not compare."""
    for path in ("attack", "scanner"):
        was, now = _at(old, f"{path}.name"), _at(new, f"{path}.name")
        if was is not None and now is not None and was != now:
            yield path, (f"{path}: {transition(was, now)}", _of_attacks(now))
    before, after = _but_samples(old), _but_samples(new)
    if any(differences(before, after)):
        yield "control", (f"control: {transition(before, after)}", Way.LOOSENED)


def _of_attacks(name: Any) -> Way:
    return Way.TIGHTENED if name == STRONGEST_ATTACK else Way.LOOSENED


def _but_samples(requirement: Json) -> dict[str, Any]:
    """Return the control apart from on how many samples it is run, and from its canaries, which are a list."""
    control = requirement.get("control")
    kept = control if isinstance(control, Mapping) else {}
    return {key: value for key, value in kept.items() if key not in ("samples", "canaries")}


def _at(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _entries(listed: Any) -> list[str]:
    """Return the entries of a list, each as a reader writes it."""
    some = listed if isinstance(listed, list | tuple) else ()
    return [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in some]
