"""The corpus: malicious and malformed model files, made afresh for each use. Their payloads create one empty file.

Every specimen must be refused for its own reason; those with a ``pickled`` part must run under plain pickle, or they
would prove nothing.
"""

from __future__ import annotations

from pathlib import Path

from audit.artifacts.corpus import containers, headers, pickles, truncated
from audit.artifacts.corpus.specimen import Specimen

__all__ = ["Specimen", "build"]


def build(marker: Path) -> tuple[Specimen, ...]:
    """Return every specimen; their payloads create the file ``marker``."""
    target = str(marker)
    return (
        *pickles.in_archives(target),
        *pickles.under_any_name(target),
        *containers.archives(target),
        *containers.other_formats(target),
        *headers.malformed(),
        *truncated.files(),
    )
