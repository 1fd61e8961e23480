"""What several requirements of one run use, a server for example: made for the first of them, closed after the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """Something that holds a process or a folder until it is closed."""

    def close(self) -> None:
        """Let go of it."""
        ...


Made = TypeVar("Made", bound=Closable)


class Lasting:
    """Such things by name; each is made once."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._made: dict[str, Any] = {}
        self._stack = ExitStack()

    def get(self, name: str, make: Callable[[], Made]) -> Made:
        """Return the thing of this name, made now if need be."""
        if name not in self._made:
            self._made[name] = make()
            self._stack.callback(self._made[name].close)
        found: Made = self._made[name]
        return found

    def close(self) -> None:
        """Close everything, the last thing first; what is asked for afterwards is made anew."""
        self._made.clear()
        self._stack.close()
