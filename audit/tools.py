"""The Python tools that the audit starts: the running interpreter's own, in an environment that configures none.

A tool found on PATH may be another one, and variables may turn the right one: ``GIT_INDEX_FILE`` lists other files,
``PYTHONPATH`` puts another bandit in front of the installed one, ``SEMGREP_BASELINE_COMMIT`` leaves findings out. So
tools are started as modules of this interpreter, and none sees such variables.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from audit.errors import ScannerFailed, ScannerMissing
from audit.process import run
from audit.programs import trusted_path

ENTRANCES = {"semgrep": "semgrep.console_scripts.entrypoint"}  # whose __main__ starts nothing
VERSION_SECONDS = 60.0
_CONFIGURING = ("GIT_", "PYTHON", "SEMGREP_", "PIP_AUDIT_", "PIPAPI_")  # how names of variables begin
_SITES = ("site-packages", "dist-packages")


def python_tool(name: str) -> list[str]:
    """Return the command that runs an installed Python tool with this interpreter.

    Raises:
        ScannerMissing: it is not installed beside this interpreter.
    """
    package = name.replace("-", "_")
    check_installed(name, package)
    # -P: nor a module of that name in the working folder
    return [sys.executable, "-P", "-m", ENTRANCES.get(name, package)]


def check_installed(name: str, package: str) -> None:
    """Look for a tool's package among the installed ones, and nowhere else.

    Raises:
        ScannerMissing: it is not there.
    """
    if PathFinder.find_spec(package, site_folders()) is None:
        raise ScannerMissing(
            f"{name}: expected beside this Python, not found; install the project's locked requirements"
        )


def check_imported(package: str) -> None:
    """Look at where a tool that is run in this process is imported from; its distribution has the same name.

    Raises:
        ScannerMissing: it is not installed, or a module of its name elsewhere comes first.
    """
    check_installed(package, package)
    spec = find_spec(package)
    if spec is None or not (spec.origin or "").startswith(tuple(f"{one}{os.sep}" for one in site_folders())):
        raise ScannerMissing(f"{package}: another module of this name comes before the installed one; take it away")


def site_folders() -> list[str]:
    """Return the folders of installed packages."""
    return [place for place in sys.path if Path(place).name in _SITES]


def environment(root: Path | None = None) -> dict[str, str]:
    """Return the environment for an outside tool: ours, without what would configure it.

    Args:
        root: the audited repository; no program is taken from there.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURING)}
    return kept | {"PATH": trusted_path(root), "PYTHONSAFEPATH": "1"}


def printed_version(name: str, command: Sequence[str] = ()) -> str:
    """Return the version that a tool prints of itself; each command is asked once.

    Raises:
        ScannerMissing: it is not installed beside this interpreter.
        ScannerFailed: it prints none, or another one than is installed.
    """
    return _printed_version(name, tuple(command or python_tool(name)))


@cache
def _printed_version(name: str, command: tuple[str, ...]) -> str:
    done = run([*command, "--version"], cwd=Path(sys.prefix), seconds=VERSION_SECONDS, environment=environment())
    found = re.match(r"(?:\S+ )?(\d\S*)$", done.stdout.partition("\n")[0].strip())  # its own name may go before
    if found is None:
        raise ScannerFailed(f"{name}: expected its version, got exit {done.code}: {done.tail}")
    return confirmed(name, found[1])


def confirmed(name: str, printed: str) -> str:
    """Return the version that a tool printed of itself.

    Raises:
        ScannerFailed: another version is installed, so something else has run.
    """
    try:
        installed = version(name)
    except PackageNotFoundError:
        installed = "none"
    if printed != installed:
        raise ScannerFailed(f"{name}: the tool that ran says it is version {printed!r}, installed is {installed}")
    return printed
