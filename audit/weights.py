"""Weight files of targets: read once, verified, and loaded without ever unpickling anything in this process.

Safetensors are parsed here. A torch state dict, which is a pickle inside a zip (or, of old, several in a row), must
first pass a scan of its opcodes against a list of what state dicts need; then a child process loads it with
``weights_only=True`` and hands back safetensors. Whatever else comes is refused by its content, not by its name.
"""

from __future__ import annotations

import hashlib
import io
import pickletools  # nosec B403  # lists opcodes; nothing is unpickled
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from audit import unpack
from audit.errors import IntegrityError, ScannerError
from audit.process import run

CHILD_SECONDS = 120.0
ZIP_MAGIC = b"PK\x03\x04"
# before torch 1.6: five pickles in a row (magic number, protocol, system, the state dict, keys), then the raw tensors
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
# what torch.save writes for a dictionary of tensors, and nothing else
ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch (\w+Storage|Size|device)"
)
ALLOWED_OPCODES = frozenset(
    """
    PROTO STOP MARK POP_MARK GLOBAL REDUCE BUILD BINPERSID
    EMPTY_DICT EMPTY_LIST EMPTY_TUPLE DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS
    BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING BININT BININT1 BININT2 LONG1 BINFLOAT NONE NEWTRUE NEWFALSE
    BINPUT LONG_BINPUT BINGET LONG_BINGET
    """.split()  # noqa: SIM905  # a list of words reads better than forty quoted ones
)


def load_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Load a weight file: read once, verify, and load the verified bytes.

    Args:
        path: safetensors, or a torch state dict, alone or under the key ``state_dict``.
        sha256: its pinned SHA-256, None where the policy pins none.

    Raises:
        IntegrityError: it cannot be read, its digest differs, or its content is refused.
    """
    content = _read_verified(path, sha256)
    if content.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        return _load_state_dict(content, path.name)
    try:
        state: dict[str, Tensor] = parse_safetensors(content)
    except SafetensorError as error:
        raise IntegrityError(
            f"{path.name}: expected safetensors or a torch state dict, got {error}; pickles are never loaded: "
            "save the weights again with safetensors.torch.save_file(network.state_dict(), ...)"
        ) from error
    return state


def refusals(content: bytes, pickles: int = 1) -> Iterator[str]:
    """Yield why pickles are more than a state dict: opcodes and names that are not on the list.

    Args:
        content: begins with the pickles, protocol 2 as torch writes it.
        pickles: how many follow each other.
    """
    stream = io.BytesIO(content)
    try:
        for opcode, argument, position in (one for _ in range(pickles) for one in pickletools.genops(stream)):
            if opcode.name not in ALLOWED_OPCODES:
                yield f"opcode {opcode.name} at byte {position}"
            elif opcode.name == "GLOBAL" and not ALLOWED_GLOBALS.fullmatch(str(argument)):
                yield f"the name {str(argument).replace(' ', '.')} at byte {position}"
    except Exception as error:  # pickletools raises many types for what is no pickle
        yield f"no readable pickle ({type(error).__name__})"


def file_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file, None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _load_state_dict(content: bytes, name: str) -> dict[str, Tensor]:
    scanned = _repacked(content)
    for reason in _scan(scanned):
        raise IntegrityError(
            f"{name}: refused, because its pickle holds {reason}; a state dict of tensors needs no such thing: "
            "save network.state_dict(), not the network"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "weights.pt", Path(folder) / "weights.safetensors"
        source.write_bytes(scanned)
        command = [sys.executable, "-I", str(Path(unpack.__file__)), str(source), str(result)]
        try:
            done = run(command, cwd=Path(folder), seconds=CHILD_SECONDS)
        except ScannerError as error:
            raise IntegrityError(f"{name}: the process that loads it did not finish: {error}") from error
        if done.code or not result.is_file():
            raise IntegrityError(f"{name}: expected a torch state dict of tensors, got: {done.tail}")
        state: dict[str, Tensor] = parse_safetensors(result.read_bytes())
    return state


def _repacked(content: bytes) -> bytes:
    """Return an archive with the members that Python's reader finds in one, stored anew.

    Two readers may find different members in the same bytes, by different ideas of where the directory begins. So what
    is scanned here, and loaded in the child, is written by us. Anything that is no archive comes back as it is.
    """
    if content.startswith(LEGACY_MAGIC):
        return content
    fresh = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as own:
            members = archive.infolist()
            if sum(one.file_size for one in members) > len(content):
                return content  # compressed or overlapping: for the scan to refuse
            for one in members:
                if one.compress_type == zipfile.ZIP_STORED:
                    own.writestr(zipfile.ZipInfo(one.filename), archive.read(one))
                else:
                    return content
    except Exception:  # a damaged archive raises almost anything; the scan says what is wrong with it
        return content
    return fresh.getvalue()


def _scan(content: bytes) -> Iterator[str]:
    if content.startswith(LEGACY_MAGIC):
        yield from refusals(content, LEGACY_PICKLES)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED or one.file_size > len(content) for one in members):
                yield "compressed members, which torch never writes"
                return
            pickles = [one.filename for one in members if one.filename.lower().endswith(".pkl")]
            if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
                yield f"{len(pickles)} members named .pkl, expected one data.pkl"
                return
            yield from refusals(archive.read(pickles[0]))
    except Exception as error:  # a damaged archive raises almost anything
        yield f"no readable archive ({type(error).__name__})"


def _read_verified(path: Path, sha256: str | None) -> bytes:
    """Read a file once and return the bytes whose digest was checked.

    Raises:
        IntegrityError: it cannot be read, or its SHA-256 is not the pinned one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path.name}: expected a weight file, got {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise IntegrityError(
            f"{path.name}: expected SHA-256 {sha256} (pinned in the policy), got {actual}; "
            "restore the file, or pin the new digest after review"
        )
    return content
