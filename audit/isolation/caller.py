"""Asking a process of third-party code: whatever comes back is data from a stranger."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from audit import errors
from audit.errors import AuditError, ThirdPartyFailed
from audit.isolation.wire import Line, Wire, nameless, pair, read_document

REFUSALS = {one.__name__: one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, AuditError)}


class Door:
    """Leads to a process that has loaded something: each wire through it is one to a process forked from that."""

    def __init__(self, wire: Wire, what: str) -> None:
        """Open doors over a wire to that process; ``what`` it has, for errors."""
        self._wire, self._what = wire, what

    def open(self, seconds: float) -> Caller:
        """Return somebody to ask who has not been asked yet."""
        return Caller(self.wire(), self._what, seconds)

    def wire(self) -> Wire:
        """Return a wire to a process that was forked for it.

        Raises:
            ThirdPartyFailed: the process that it would be forked from has ended.
        """
        ours, theirs = pair()
        try:
            self._wire.send({}, theirs.socket.fileno())
        except OSError as error:
            raise ThirdPartyFailed(f"{self._what}: its process has ended") from error
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """Open nothing more."""
        self._wire.close()


class Caller:
    """Asks a process, and raises what it raised."""

    def __init__(self, wire: Wire, what: str, seconds: float) -> None:
        """Ask over a wire, and wait for so many seconds at most."""
        self._wire, self._what = wire, what
        wire.patience(seconds)

    def ask(self, line: Line, *files: int) -> Line:
        """Ask, and return the answer.

        Raises:
            AuditError: as raised there.
            ThirdPartyFailed: another error was raised there, or its process ended, or did not answer in time.
        """
        try:
            said = self._wire.ask(line, *files)
        except EOFError:
            raise ThirdPartyFailed(f"{self._what}: its process ended before it answered") from None
        except TimeoutError:
            raise ThirdPartyFailed(f"{self._what}: its process did not answer in time") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ThirdPartyFailed(f"{self._what}: its process broke off ({type(error).__name__})") from error
        if "error" not in said:
            return said
        text = "".join(one if one.isprintable() or one == "\n" else " " for one in str(said.get("text")))
        raise REFUSALS.get(str(said["error"]), ThirdPartyFailed)(text)

    def document(self, line: Line) -> tuple[Any, dict[str, Tensor]]:
        """Ask, and return the JSON and the tensors that were written as an answer; as :meth:`ask`."""
        result = nameless()
        try:
            self.ask(line, result)
            return read_document(result)
        finally:
            os.close(result)

    def close(self) -> None:
        """Let the process end."""
        self._wire.close()
