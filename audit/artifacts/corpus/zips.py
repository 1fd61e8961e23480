"""Zip archives as torch writes them: stored, not compressed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

COMPLETE = b"\x80\x02}."  # an empty dictionary: the least that is a state dict


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive with these members, in this order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body, compression)
    return stream.getvalue()
