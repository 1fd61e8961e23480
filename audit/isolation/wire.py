"""What two processes say to each other: lines of JSON, files that have no name, and memory that both see.

The end that asks makes every file, and fixes its size before the other end has it, so that no answer can make it touch
memory that is gone. Tensors travel as safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
import socket
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audit.errors import WorkerFailed
from audit.isolation.confine import memory

MOST_BYTES = 2**17  # of a line
BLOCK = 512  # bytes in which st_blocks counts
MOST_FILES = 4
MOST_LETTERS = 2_000  # of an error's text
_SIZE_IS_FIXED = 0x0002 | 0x0004 | 0x0001  # F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL; linux/fcntl.h
_CONTENT_IS_FIXED = 0x0008  # F_SEAL_WRITE
_UNDER = "said"  # the key of the metadata under which a document has its JSON
Line = dict[str, Any]


class Wire:
    """One end of a connection on which lines keep their borders; closed with the last that holds it."""

    def __init__(self, connection: socket.socket) -> None:
        """Speak over a connected socket of whole messages."""
        self._socket = connection
        weakref.finalize(self, connection.close)

    @property
    def socket(self) -> socket.socket:
        """Return the socket itself."""
        return self._socket

    def patience(self, seconds: float) -> None:
        """Wait no longer than so many seconds for an answer."""
        self._socket.settimeout(seconds)

    def send(self, line: Mapping[str, Any], *files: int) -> None:
        """Send a line, and files with it."""
        text = json.dumps(line).encode()
        if files:
            socket.send_fds(self._socket, [text], files)
        else:
            self._socket.send(text)

    def receive(self, files: int = 0) -> tuple[Line, list[int]]:
        """Return the next line, and at most so many files that came with it.

        Raises:
            EOFError: the other end is closed.
            ValueError: what came is no JSON object.
        """
        text, descriptors, *_ = socket.recv_fds(self._socket, MOST_BYTES, files)
        if not text:
            raise EOFError
        line = json.loads(text)
        if not isinstance(line, dict):
            raise ValueError(f"expected a JSON object, got {type(line).__name__}")
        return line, descriptors

    def ask(self, line: Mapping[str, Any], *files: int) -> Line:
        """Send a line and return the answer; as :meth:`receive`."""
        self.send(line, *files)
        return self.receive()[0]

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pair() -> tuple[Wire, Wire]:
    """Return the two ends of a new connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Wire(ours), Wire(theirs)


class Shared:
    """Memory that two processes see: made by one, of a size that never changes."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map a file that lives in memory."""
        self.descriptor, self.size = descriptor, size
        self._memory = mmap.mmap(descriptor, size)
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def make(cls, size: int) -> Shared:
        """Make some."""
        descriptor = nameless()
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SIZE_IS_FIXED)
        return cls(descriptor, size)

    def array(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return float32 numbers that lie there."""
        return np.frombuffer(self._memory, np.float32, math.prod(shape), offset).reshape(shape)


class Document:
    """A file that lives in memory and has no name, with JSON and tensors that nobody can change any more."""

    def __init__(self, said: Any, tensors: Mapping[str, Tensor]) -> None:
        """Write it."""
        self.descriptor = nameless()
        weakref.finalize(self, os.close, self.descriptor)
        write_document(self.descriptor, said, tensors)
        with open(self.descriptor, "rb", closefd=False) as file:
            file.seek(0)
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SIZE_IS_FIXED | _CONTENT_IS_FIXED)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open it anew, for reading: who has it from another cannot tell how far that one read."""
        descriptor = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def nameless() -> int:
    """Return a new file that lives in memory and has no name."""
    return os.memfd_create("audit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write_document(descriptor: int, said: Any, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write JSON, and tensors, into an empty file."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in (tensors or {}).items()}
    content = memoryview(save(whole, metadata={_UNDER: json.dumps(said)}))
    while content:
        content = content[os.write(descriptor, content) :]


def read_document(descriptor: int) -> tuple[Any, dict[str, Tensor]]:
    """Return the JSON and the tensors of a file that another process wrote.

    Raises:
        WorkerFailed: it is no such document, or one of more than a quarter of the machine's memory.
    """
    size = os.fstat(descriptor).st_size
    if (
        size > memory() // 4 or size > os.fstat(descriptor).st_blocks * BLOCK
    ):  # a file with holes costs its writer nothing
        raise WorkerFailed(f"expected at most {memory() // 4:,} bytes from another process, got {size:,}, or holes")
    content = os.pread(descriptor, size, 0)
    while len(content) < size:
        content += os.pread(descriptor, size - len(content), len(content)) or b"\0"
    try:
        length = int.from_bytes(content[:8], "little")
        return json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_UNDER]), load(content)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise WorkerFailed(f"expected JSON and tensors from another process, got {type(error).__name__}") from error
