"""Running outside programs: no shell, an end in time, captured output. The only module that starts processes."""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404  # the one module that starts processes: lists, no shell
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic
from typing import IO, Any

from audit.errors import ScannerFailed, ScannerMissing
from audit.programs import find_program

KEPT_LINES = 200  # of what a long-running program complains about
LONGEST_LINE = 4096  # bytes
Running = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """Exit status and output of a program that ended by itself."""

    code: int
    stdout: str
    stderr: str

    @property
    def tail(self) -> str:
        """Return the last line of standard error, or of standard output."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return lines[-1][:300] if lines else "no output"


def run(command: Sequence[str], *, cwd: Path, seconds: float, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end.

    Args:
        command: program and arguments.
        cwd: working directory.
        seconds: time-out.
        environment: the whole environment of the program; None inherits ours.

    Raises:
        ScannerMissing: the program does not exist.
        ScannerFailed: it did not end in time.
    """
    with _start(command, cwd=cwd, environment=environment) as child:
        try:
            stdout, stderr = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise ScannerFailed(f"{Path(command[0]).name}: no answer within {seconds:g} s") from error
        finally:
            _end(child)
    return Finished(child.returncode, _text(stdout), _text(stderr))


def attached(command: Sequence[str], *, environment: Mapping[str, str]) -> Running:
    """Start a program on our own terminal and in our process group, so that Ctrl-C reaches it as it reaches us."""
    return _started(command, env=dict(environment))


class Child:
    """A program that goes on running: its first line of output, the end of what it complained about, and its end."""

    def __init__(self, process: Running) -> None:
        """Read both outputs in the background, so that the program never waits for us."""
        self._process, self._first = process, Queue[str](maxsize=1)
        self._complaints: deque[str] = deque(maxlen=KEPT_LINES)
        readers = ((process.stdout, self._keep_first), (process.stderr, self._complaints.append))
        self._readers = [Thread(target=_read, args=pair, daemon=True) for pair in readers]
        for reader in self._readers:
            reader.start()

    @property
    def complaint(self) -> str:
        """Return the last line of standard error."""
        lines = [line for line in self._complaints if line]
        return lines[-1][:300] if lines else "no output"

    @property
    def pid(self) -> int:
        """Return its number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it still runs."""
        return self._process.poll() is None

    def first_line(self, seconds: float) -> str | None:
        """Return the first line of standard output; None where it ended, or was silent, before there was one."""
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            try:
                return self._first.get(timeout=0.05)
            except Empty:
                if not self.running:
                    break
        self._join()
        return None if self._first.empty() else self._first.get()

    def stop(self, seconds: float) -> int | None:
        """Ask it to end (SIGTERM), and return its exit status; None if it had to be killed."""
        self._process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float) -> int | None:
        """Return its exit status when it ends by itself; None if it had to be killed."""
        try:
            code: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return code

    def kill(self) -> None:
        """End it, and whatever it started, at once (SIGKILL)."""
        _end(self._process)
        self._join()

    def _keep_first(self, line: str) -> None:
        with suppress(Full):
            self._first.put_nowait(line)

    def _join(self) -> None:
        if not self.running:
            for reader in self._readers:
                reader.join(timeout=5)


@contextmanager
def running(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Start a program that goes on running, in a process group of its own; it is killed at the end, whatever happens.

    Where the system has ``setpriv`` (Linux), the program dies even when we are killed and can end nothing any more.

    Raises:
        ScannerMissing: the program does not exist.
    """
    named = Path(command[0])
    program = command[0] if named.is_absolute() and named.is_file() else find_program(command[0])
    process = _start([*_dying_with_us(), program, *command[1:]], cwd=cwd, environment=environment)
    try:
        child = Child(process)
        try:
            yield child
        finally:
            child.kill()
    finally:
        _end(process)


def _dying_with_us() -> list[str]:
    try:
        return [find_program("setpriv"), "--pdeathsig", "KILL", "--"]
    except ScannerMissing:
        return []


def _start(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> Running:
    try:
        return _started(
            command,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ScannerMissing(f"{command[0]}: not found") from error


def _started(command: Sequence[str], **options: Any) -> Running:
    return subprocess.Popen(list(command), **options)  # nosec B603  # a list of arguments, no shell


def _end(process: Running) -> None:
    """Kill a program and what it started; no harm where it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(stream: IO[bytes], keep: Callable[[str], object]) -> None:
    """Hand on a program's output line by line to its end; a line longer than the limit counts as several."""
    with stream:
        while line := stream.readline(LONGEST_LINE):
            keep(_text(line).rstrip())


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
