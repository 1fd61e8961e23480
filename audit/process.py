"""Running outside programs: no shell, a time-out, captured output. The only module that starts processes."""

from __future__ import annotations

import shutil
import subprocess  # nosec B404  # the one module that starts processes: lists, no shell
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.errors import ScannerFailed, ScannerMissing


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


def find_tool(name: str) -> str:
    """Return the path of a program on PATH.

    Raises:
        ScannerMissing: there is none.
    """
    found = shutil.which(name)
    if found is None:
        raise ScannerMissing(f"{name}: expected on PATH, not found; install the project's locked requirements")
    return found


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
    try:
        done = subprocess.run(  # nosec B603  # a list of arguments, a program found on PATH, no shell
            list(command),
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise ScannerMissing(f"{command[0]}: not found") from error
    except subprocess.TimeoutExpired as error:
        raise ScannerFailed(f"{Path(command[0]).name}: no answer within {seconds:g} s") from error
    return Finished(done.returncode, done.stdout, done.stderr)
