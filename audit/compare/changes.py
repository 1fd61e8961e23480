"""What a comparison is made of, and how two pieces of plain data differ. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = 90


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed: of what, in words, whether it counts, and further lines."""

    subject: str
    text: str
    counts: bool
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """What changed of one kind."""

    title: str
    changes: tuple[Change, ...]

    @property
    def counting(self) -> int:
        """Return how many of the changes count."""
        return sum(change.counts for change in self.changes)

    @property
    def width(self) -> int:
        """Return the length of the longest subject."""
        return max(len(change.subject) for change in self.changes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that changed, by section; sections without a change are left out."""

    sections: tuple[Section, ...]

    @property
    def counts(self) -> bool:
        """Tell whether anything changed that matters."""
        return any(section.counting for section in self.sections)

    @property
    def summary(self) -> str:
        """Return it in one line."""
        if not self.sections:
            return "Nothing changed."
        weighty = [f"{one.title} {one.counting}" for one in self.sections if one.counting]
        light = [f"{one.title} {rest}" for one in self.sections if (rest := len(one.changes) - one.counting)]
        said = [f"Changes that count: {', '.join(weighty) or 'none'}."]
        return " ".join(said + ([f"Others: {', '.join(light)}."] if light else []))


def differences(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted path, the old and the new value of every leaf that differs, None where there is none.

    A list of plain values is one leaf. Null and empty are the same as missing.
    """
    before, after = _leaves(old, ""), _leaves(new, "")
    for path in {**after, **before}:
        if not same(before.get(path), after.get(path)):
            yield path, before.get(path), after.get(path)


def same(old: Any, new: Any) -> bool:
    """Tell whether two leaves are the same, numbers up to the noise of floating point."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, float) or isinstance(new, float):
        numbers = isinstance(old, float | int) and isinstance(new, float | int)
        return numbers and math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)
    return type(old) is type(new) and bool(old == new)


def transition(old: Any, new: Any) -> str:
    """Return ``old -> new`` in words, each short."""
    texts = _text(old), _text(new)
    short = tuple(one if len(one) <= SHOWN else f"{one[: SHOWN - 3]}..." for one in texts)
    return " -> ".join(texts if short[0] == short[1] else short)


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _leaves(data: Any, path: str) -> dict[str, Any]:
    """Return every value that is neither a mapping nor a list of some, by its path; no empty ones."""
    if isinstance(data, Mapping):
        parts = [(f"{path}.{key}" if path else str(key), value) for key, value in data.items()]
    elif isinstance(data, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in data):
        parts = [(f"{path}[{index}]", value) for index, value in enumerate(data)]
    else:
        return {} if data is None or data in ([], (), {}) else {path: data}
    return {name: leaf for key, value in parts for name, leaf in _leaves(value, key).items()}


def printable(text: str) -> str:
    """Return a text without control characters: what is compared may come from elsewhere."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
