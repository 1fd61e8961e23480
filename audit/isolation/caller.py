"""Asking a process of third-party code: whatever comes back is data from a stranger."""

from __future__ import annotations

import os
import select
import signal
import weakref
from typing import Any

from torch import Tensor

from audit.compare.changes import printable
from audit.errors import AuditError, ThirdPartyFailed, WorkerFailed
from audit.isolation.wire import Line, Wire, nameless, pair, read_document

SECONDS_TO_END = 10.0
SECONDS_TO_FORK = 60.0
Raised = tuple[type[AuditError], ...]


class Door:
    """Leads to a process: each wire through it is one to a process forked from that."""

    def __init__(self, wire: Wire, what: str, raises: Raised) -> None:
        """Open doors over a wire to that process; ``what`` it has, for errors, and which of ours it may raise."""
        self._wire, self._what, self._raises = wire, what, raises

    def open(self, seconds: float, what: str = "", raises: Raised = ()) -> Caller:
        """Return somebody to ask who has not been asked yet, and may take so many seconds for an answer.

        Raises:
            ThirdPartyFailed: the process that it would be forked from has ended.
        """
        what = what or self._what
        ours, theirs = pair()
        try:
            self._wire.send({}, theirs.socket.fileno())
            theirs.close()
            ours.patience(SECONDS_TO_FORK)
            _, files = ours.receive(files=1)
        except (OSError, EOFError, ValueError, RecursionError) as error:
            raise ThirdPartyFailed(f"{what}: no process could be forked for it ({type(error).__name__})") from error
        if not files:
            raise ThirdPartyFailed(f"{what}: no process could be forked for it")
        ours.patience(seconds)
        return Caller(ours, files[0], what, raises or self._raises)

    def close(self) -> None:
        """Open nothing more."""
        self._wire.close()


class Caller:
    """Asks a process, and raises what it raised; the process ends with this."""

    def __init__(self, wire: Wire, process: int, what: str, raises: Raised) -> None:
        """Ask over a wire; ``process`` is the file that stands for who answers."""
        self._wire, self._what = wire, what
        self._raises = {one.__name__: one for one in raises}
        self._end = weakref.finalize(self, _end, wire, process, os.getpid())

    @property
    def wire(self) -> Wire:
        """Return the wire, to be a door to processes forked from that one."""
        return self._wire

    def ask(self, line: Line, *files: int) -> Line:
        """Ask, and return the answer.

        Raises:
            AuditError: as raised there, of the types that may be.
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
        text = "\n".join(map(printable, str(said.get("text")).split("\n")))
        raise self._raises.get(str(said["error"]), ThirdPartyFailed)(text)

    def document(self, line: Line, *files: int) -> tuple[Any, dict[str, Tensor]]:
        """Ask, and return the JSON and the tensors that were written as an answer; as :meth:`ask`."""
        result = nameless()
        try:
            self.ask(line, result, *files)
            return read_document(result)
        except WorkerFailed as error:
            raise ThirdPartyFailed(f"{self._what}: {error}") from error
        finally:
            os.close(result)

    def close(self) -> None:
        """End the process, and wait until it has."""
        self._end()


def _end(wire: Wire, process: int, owner: int) -> None:
    """End a process, unless this one was forked from the one that asked it."""
    wire.close()
    try:
        if os.getpid() == owner:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], SECONDS_TO_END)
    except OSError:  # it has ended
        pass
    finally:
        os.close(process)
