"""The report as JSON. ``schema_version`` follows SemVer: readers may rely on every key of its major version."""

from __future__ import annotations

import os
from pathlib import Path

from audit.records import Report


def render(report: Report) -> str:
    """Return the whole record as indented JSON."""
    return report.model_dump_json(indent=2) + "\n"


def write(report: Report, path: Path) -> None:
    """Write the JSON atomically."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(render(report), encoding="utf-8")
    scratch.replace(path)
