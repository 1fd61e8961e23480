"""Torch state dicts, which are pickles: scanned here, packed anew, loaded by a confined child, back as safetensors."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version
from torch import Tensor

from audit.artifacts import safetensors_file, unpack
from audit.artifacts.formats import LEGACY
from audit.artifacts.opcodes import refusals
from audit.errors import IntegrityError, ScannerError
from audit.process import run

CHILD_SECONDS = 120.0
LEGACY_PICKLES = 5
SAFE_TORCH = Version("2.6")  # before, weights_only=True could be made to run code: CVE-2025-32434
MOST_MEMBERS = 100_000
# what torch.save puts into an archive, under one folder; whatever else lies there is not a state dict
MEMBER = re.compile(
    r"[\w.\-]+/(data\.pkl|data/\d{1,20}|version|byteorder|\.format_version|\.storage_alignment|"
    r"\.data/serialization_id)"
)
_USUAL_FLAGS = 0x808  # sizes follow the data; names are UTF-8
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")


def load_state_dict(content: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a torch state dict, alone or under the key ``state_dict``.

    Args:
        content: the whole file, a zip archive as torch 1.6 and later write it, or the older row of pickles.
        name: what errors call it.

    Raises:
        IntegrityError: it holds anything but tensors, or could not be loaded within the child's limits.
    """
    if content.startswith(LEGACY):
        _deny(name, refusals(content, LEGACY_PICKLES))
        own = content
    else:
        own = _packed_anew(content, name)
    if Version(version("torch")) < SAFE_TORCH:
        raise IntegrityError(f"{name}: a pickle needs torch >= {SAFE_TORCH} (CVE-2025-32434), got {version('torch')}")
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "weights.pt", Path(folder) / "weights.safetensors"
        source.write_bytes(own)
        command = [sys.executable, "-I", str(Path(unpack.__file__)), str(source), str(result)]
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        try:
            done = run(command, cwd=Path(folder), seconds=CHILD_SECONDS, environment=environment)
        except ScannerError as error:
            raise IntegrityError(f"{name}: the process that loads it did not finish: {error}") from error
        if done.code or not result.is_file():
            why = done.tail if done.code > 0 else f"it was stopped by signal {-done.code}, at a limit of time or memory"
            raise IntegrityError(f"{name}: expected a torch state dict of tensors, got: {why}")
        return safetensors_file.parse(result.read_bytes(), name)


def _packed_anew(content: bytes, name: str) -> bytes:
    """Return a fresh archive with the members that Python's reader finds, once nothing is wrong with any of them.

    Two readers may find different members in the same bytes, by different ideas of where the directory begins. So what
    is scanned here, and loaded in the child, is written by us.
    """
    fresh = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as own:
            members = archive.infolist()
            _deny(name, _wrong_members(members, len(content)))
            for member in members:
                body = archive.read(member)
                if member.filename.endswith("/data.pkl"):
                    _deny(name, refusals(body))
                own.writestr(zipfile.ZipInfo(member.filename), body)
    except IntegrityError:
        raise
    except Exception as error:  # a damaged archive raises almost anything
        raise IntegrityError(f"{name}: refused, because it is a damaged archive: {error}") from error
    return fresh.getvalue()


def _wrong_members(members: list[zipfile.ZipInfo], size: int) -> Iterator[str]:
    names = [member.filename for member in members]
    if len(members) > MOST_MEMBERS:
        yield f"{len(members):,} members (at most {MOST_MEMBERS:,})"
    for member in members:
        if not MEMBER.fullmatch(member.filename):
            yield f"a member named {member.filename[:80]!r}, which no state dict has"
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            yield f"compressed data in {member.filename!r}, which torch never writes"
        if member.flag_bits & ~_USUAL_FLAGS:
            yield f"unusual flags ({member.flag_bits:#06x}) at {member.filename!r}, encryption among them perhaps"
        if stat.S_ISLNK(member.external_attr >> 16):
            yield f"a symbolic link, {member.filename!r}"
    if sum(member.file_size for member in members) > size:
        yield "members that overlap"
    if len(set(names)) != len(names):
        yield "a member that occurs twice"
    if len({one.partition("/")[0] for one in names}) != 1 or sum(one.endswith("/data.pkl") for one in names) != 1:
        yield "no single data.pkl in a single folder"


def _deny(name: str, reasons: Iterator[str]) -> None:
    for reason in reasons:
        raise IntegrityError(
            f"{name}: refused, because it holds {reason}; a state dict of tensors needs no such thing: "
            "save network.state_dict(), not the network"
        )
