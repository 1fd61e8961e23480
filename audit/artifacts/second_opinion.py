"""A second scanner over model files: picklescan, in its strict mode, where every name it does not know is a finding.

It looks for pickles, and calls clean what it finds none in, compressed pickles and safetensors alike. So only a file
that holds pickles by its content counts as understood.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from audit.artifacts.formats import STATE_DICTS
from audit.artifacts.opcodes import is_pickle
from audit.artifacts.safetensors_file import looks_like
from audit.records import Finding, Severity
from audit.tools import check_imported

TOOL = "picklescan"


@dataclass(frozen=True, slots=True)
class Opinion:
    """The files that the scanner understood, and what it found."""

    tool: str
    understood: tuple[str, ...]
    passed_over: tuple[str, ...]
    findings: tuple[Finding, ...]


def scan(files: Sequence[tuple[Path, str]]) -> Opinion:
    """Scan files, each given with the name that findings carry.

    Raises:
        ScannerMissing: the scanner is not installed, or another module of its name would be imported in its place.
    """
    check_imported(TOOL)
    understood, passed_over, findings = [], [], []
    for path, shown in files:
        if _holds_pickles(path):
            understood.append(shown)
            message = _complaint(path)
            if message is not None:
                findings.append(
                    Finding(tool=TOOL, rule="pickle", severity=Severity.CRITICAL, path=shown, message=message)
                )
        else:
            passed_over.append(shown)
    return Opinion(f"{TOOL} {version(TOOL)}", tuple(understood), tuple(passed_over), tuple(findings))


def _complaint(path: Path) -> str | None:
    """Return what the scanner holds against a file; one that it cannot read is not clean."""
    from picklescan.scanner import SafetyLevel, scan_file_path  # nosec B403  # a scanner of pickles, no unpickler

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    try:
        result = scan_file_path(str(path), strict=True)
    except Exception as error:  # damaged files make it raise whatever their parsers raise
        return f"could not be read: {type(error).__name__}: {error}"
    if result.issues_count:
        named = {f"{one.module}.{one.name}" for one in result.globals if one.safety is not SafetyLevel.Innocuous}
        return f"calls {', '.join(sorted(named))}"
    if result.scan_err or not result.scanned_files:
        return "could not be read to its end"
    return None


def _holds_pickles(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(STATE_DICTS) or (not looks_like(content) and is_pickle(content))
