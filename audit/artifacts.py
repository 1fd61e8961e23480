"""Safe loading, shown rather than claimed: the real loader is given malicious pickles, and a control shows they bite.

The payloads are written opcode by opcode, so that this module never imports pickle; they create one empty marker file
and do nothing else.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from audit.errors import AuditError, IntegrityError, ScannerError
from audit.process import run
from audit.records import ControlResult, Finding, Severity, Status

TOOL = "safe loading"
CHILD_SECONDS = 60.0
Loader = Callable[[Path, str | None], object]  # raises IntegrityError for what it refuses
_UNPICKLE = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
_UNPICKLE_ZIP = "import pickle, sys, zipfile; pickle.loads(zipfile.ZipFile(sys.argv[1]).read('archive/data.pkl'))"


def marker_payload(marker: Path) -> bytes:
    """Return a protocol-0 pickle that creates ``marker`` when unpickled: GLOBAL builtins.open, two strings, REDUCE."""
    return b"cbuiltins\nopen\n(" + f"S{str(marker)!r}\n".encode("ascii") + b"S'w'\ntR."


def planted_files(folder: Path, marker: Path) -> dict[str, Path]:
    """Write the payload in the shapes in which model files travel; return description -> path."""
    payload = marker_payload(marker)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("archive/data.pkl", payload)
        packed.writestr("archive/version", "3\n")
    shapes = {
        "pickle named .safetensors": ("raw.safetensors", payload),
        "pickle named .pt": ("raw.pt", payload),
        "torch zip archive named .pt": ("archive.pt", archive.getvalue()),
        "torch zip archive named .safetensors": ("archive.safetensors", archive.getvalue()),
    }
    written = {}
    for description, (name, content) in shapes.items():
        written[description] = folder / name
        written[description].write_bytes(content)
    return written


def weight_findings(path: Path, sha256: str | None, shown: str, load: Loader) -> list[Finding]:
    """Return what is wrong with the target's own weight file: not pinned, unreadable, another digest, refused."""
    if sha256 is None:
        return [_finding("unpinned", shown, "the policy pins no SHA-256, so other weights would pass for these")]
    try:
        load(path, sha256)
    except IntegrityError as error:
        return [_finding("weights", shown, str(error))]
    return []


def loader_findings(load: Loader) -> tuple[list[Finding], int]:
    """Give a loader malicious files.

    Returns:
        A finding for each file it accepted, or whose payload ran, and the number of files tried.
    """
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marker = folder / "marker"
        planted = planted_files(folder, marker)
        for description, path in planted.items():
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            try:
                load(path, sha256)
                found.append(_finding("accepted", path.name, f"{description}: the loader accepted it"))
            except AuditError:
                pass  # refused, as it must be
            if marker.exists():
                found.append(_finding("executed", path.name, f"{description}: its payload ran"))
                marker.unlink()
    return found, len(planted)


def payload_control() -> ControlResult:
    """Show that the payloads are real: plain pickle in a throw-away child process runs them."""
    fired = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marker = folder / "marker"
        planted = planted_files(folder, marker)
        for path in planted.values():
            program = _UNPICKLE_ZIP if zipfile.is_zipfile(path) else _UNPICKLE
            try:
                run([sys.executable, "-I", "-c", program, str(path)], cwd=folder, seconds=CHILD_SECONDS)
            except ScannerError:
                continue
            fired += marker.exists()
            marker.unlink(missing_ok=True)
    return ControlResult(
        name="the same payloads under plain pickle",
        status=Status.NOT_MET if fired == len(planted) else Status.MET,
        detail=f"{fired} of {len(planted)} payloads ran in a child process",
    )


def _finding(rule: str, path: str, message: str) -> Finding:
    return Finding(tool=TOOL, rule=rule, severity=Severity.CRITICAL, path=path, message=message)
