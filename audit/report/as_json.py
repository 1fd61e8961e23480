"""The report as JSON. ``schema_version`` follows SemVer: readers may rely on every key of its major version."""

from __future__ import annotations

from pathlib import Path

from audit.files import write_atomically
from audit.records import Report


def render(report: Report) -> str:
    """Return the whole record as indented JSON."""
    return report.model_dump_json(indent=2) + "\n"


def write(report: Report, path: Path) -> None:
    """Write the JSON atomically."""
    write_atomically(path, render(report).encode())
