"""A small environment of the audit's own, sound or tampered with in every way that an inspection must find."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from audit.dependencies.difference import Difference
from audit.dependencies.environment import Places, located
from audit.dependencies.installation import inspect
from audit.dependencies.startup import Process

TAMPERED = "tampered"


def sound(folder: Path) -> Places:
    """Make an environment with the distributions ``alpha`` and ``beta``, a checkout, and a standard library."""
    folder = folder.resolve()
    site, library, checkout = folder / "environment/site-packages", folder / "library", folder / "checkout"
    for one in (site, library, checkout):
        one.mkdir(parents=True)
    for name in ("alpha", "beta"):
        install(site, name, {f"{name}/__init__.py": f"NAME = {name!r}\n", f"{name}/data.bin": "0" * 64})
    (checkout / "ours.py").write_text("", encoding="utf-8")
    return Places(site.parent, (site,), (library,), checkout, (str(checkout), str(library), str(site)))


def install(site: Path, name: str, files: dict[str, str], version: str = "1.0") -> None:
    """Install a distribution as pip does: its files, METADATA, and RECORD."""
    metadata = f"{name}-{version}.dist-info"
    files = files | {f"{metadata}/METADATA": f"Name: {name}\nVersion: {version}\n", f"{metadata}/INSTALLER": "pip\n"}
    lines = []
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f"{path},sha256={digest},{len(text)}\n")
    (site / metadata / "RECORD").write_text("".join([*lines, f"{metadata}/RECORD,,\n"]), encoding="utf-8")


def started(**changes: str) -> Process:
    """Return a process that was started with nothing but some variables, in a checkout that tracks nothing."""
    return Process(changes, {}, lambda folder: ())


def found() -> list[Difference]:
    """Return what an inspection of the tampered environment finds.

    Raises:
        ValueError: something that was tampered with was not found, or something in the sound one was.
    """
    with tempfile.TemporaryDirectory() as name:
        places, memory = sound(Path(name)), Path(name) / "memory.json"
        alarm = inspect(places, located(places.search), started(), (), memory)
        if alarm.differences or alarm.doubts:
            raise ValueError(f"a sound environment: expected nothing in it (got {alarm.differences or alarm.doubts})")
        places, process, expected = _tampered(places)
        differences = list(inspect(places, located(places.search), process, (), memory).differences)
    for each in expected:
        if each not in {(one.rule, one.package) for one in differences}:
            raise ValueError(f"{each[0]}: the tampered environment has it at {each[1]}, and it was not found")
    return differences


def _tampered(places: Places) -> tuple[Places, Process, list[tuple[str, str]]]:
    """Tamper with an environment; returns what an inspection is given, and what it must find."""
    (site,) = places.site
    elsewhere = site.parent.parent / TAMPERED
    flip(site / "alpha/__init__.py")
    (site / "beta/data.bin").unlink()
    _write(site / "loose.pth", "import loose\n")
    _write(site / "bare-1.0.dist-info/METADATA", "Name: bare\nVersion: 1.0\n")
    install(site, "stray", {"../../stray.py": ""})
    _write(site / "alpha/__pycache__/one.cpython-311.pyc", "\0\0\0\0\1\0\0\0")
    _write(elsewhere / "alpha-9.0.dist-info/METADATA", "Name: alpha\nVersion: 9.0\n")
    _write(elsewhere / "sitecustomize.py", "")
    _write(places.checkout / "beta.py", "")
    hooks = {"sitecustomize": str(elsewhere / "sitecustomize.py")}
    process = replace(started(PYTHONHOME=TAMPERED, PYTHONPATH=str(elsewhere)), hooks=hooks)
    return (
        replace(places, search=(str(elsewhere), *places.search)),
        process,
        [
            ("changed", "alpha"), ("gone", "beta"), ("unowned", "loose.pth"), ("no record", "bare"),
            ("bad record", "stray"), ("unchecked bytecode", "one.cpython-311.pyc"), ("shadowed", "alpha"),
            ("foreign path", TAMPERED), ("start-up hook", "sitecustomize"), ("hidden module", "beta"),
            ("variable", "PYTHONHOME"),
        ],
    )  # fmt: skip


def flip(path: Path) -> None:
    """Change one byte of a file, and give it back the size and the times that it had."""
    told, content = path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
