"""What a policy builds on: ``extends: FILE`` begins with another file's keys. Merges plain data, validates nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.compare.changes import printable
from audit.errors import PolicyError
from audit.yaml_files import Read, read_raw


@dataclass(frozen=True, slots=True)
class Extension:
    """What a policy makes of the one that it extends, the file ``base``.

    ``dropped`` are ids of requirements that it leaves out, ``replaced`` ids, targets and keys that it gives anew.
    """

    base: str
    dropped: tuple[str, ...]
    replaced: tuple[str, ...]


def extended(data: Any, path: Path, root: Path, read: Read = Path.read_bytes) -> tuple[Any, bytes, Extension | None]:
    """Return a policy's data merged with what it extends, the bytes of that, and what became of it.

    A key that the policy gives itself replaces the inherited one as a whole, ``requirements`` too; only ``targets`` are
    added up.

    Raises:
        PolicyError: what it extends is missing, no policy, or extends another.
    """
    if not isinstance(data, dict) or "extends" not in data:
        return data, b"", None
    base = data["extends"]
    if not isinstance(base, str):
        raise PolicyError(f"{path}: extends: expected the path of a policy file (got {base!r})")
    inherited, content = read_raw(root / base, read)
    if not isinstance(inherited, dict) or "extends" in inherited:
        raise PolicyError(f"{path}: extends: expected a policy that extends no other (got {base!r})")
    own = {key: value for key, value in data.items() if key != "extends"}
    old, new = inherited.get("targets"), own.get("targets")
    both = {"targets": {**old, **new}} if isinstance(old, dict) and isinstance(new, dict) else {}
    return {**inherited, **own, **both}, content, _what_became(base, inherited, own)


def _what_became(base: str, inherited: dict[Any, Any], own: dict[Any, Any]) -> Extension:
    before, after = _by_id(inherited.get("requirements")), _by_id(own.get("requirements"))
    dropped = [name for name in before if name not in after] if "requirements" in own else []
    replaced = [name for name in after if name in before and after[name] != before[name]]
    return Extension(printable(base), _shown(dropped), _shown([*replaced, *_keys(inherited, own)]))


def _by_id(requirements: Any) -> dict[str, Any]:
    listed = requirements if isinstance(requirements, list) else []
    return {str(one["id"]): one for one in listed if isinstance(one, dict) and "id" in one}


def _keys(inherited: dict[Any, Any], own: dict[Any, Any]) -> Iterator[str]:
    """Yield the inherited keys, and targets, that the policy gives itself, with another value."""
    for key, value in own.items():
        before = inherited.get(key)
        if key == "targets" and isinstance(value, dict) and isinstance(before, dict):
            yield from (f"targets.{name}" for name in value if name in before and value[name] != before[name])
        elif key in inherited and key != "requirements" and value != before:
            yield str(key)


def _shown(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(printable, names))
