"""Run as a child process: a scanned torch state dict in, safetensors out. Imports nothing of this project.

Before anything is loaded the process gives up what it does not need. Where the system allows it: no network (a network
namespace of its own, Linux), no new privileges, limits on address space, processor time, open files and the size of
what it writes. Everywhere: an audit hook (PEP 578) that ends the load when code wants a socket, a process, or a file
outside its folder. None of this is expected to be needed after the scan; it is there for the day when that is wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

MOST_BYTES = 8 * 2**30  # of tensors; a few bytes may claim any size by strides of zero
PROGRAM_BYTES = 8 * 2**30  # address space of torch itself, with room
CPU_SECONDS = 90
OPEN_FILES = 64
_NEW_USER, _NEW_NETWORK, _NO_NEW_PRIVILEGES = 0x10000000, 0x40000000, 38  # linux/sched.h, linux/prctl.h
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# events that Python raises (PEP 578, "audit events table"); none belongs to a load
_PROCESSES = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "ctypes.dlopen",
)
_FILES = (
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
)


def confine(file_bytes: int) -> None:
    """Give up network, privileges and unlimited resources, as far as the system knows how; before threads start."""
    try:
        import ctypes
        import resource
    except ImportError:  # not a POSIX system
        return
    if sys.platform == "linux":
        system = ctypes.CDLL(None, use_errno=True)
        system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if system.unshare(_NEW_USER | _NEW_NETWORK):
            system.unshare(_NEW_NETWORK)
    written = min(16 * file_bytes + 2**24, MOST_BYTES)
    for kind, limit in (
        (resource.RLIMIT_AS, PROGRAM_BYTES + 4 * file_bytes),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit, limit) if hard == resource.RLIM_INFINITY else (min(limit, hard), hard))


def forbid(folder: Path) -> None:
    """Refuse whatever asks for a socket, a process, a change of files, or a file to write outside ``folder``."""
    inside = folder.resolve()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        outside = False
        if event == "open":
            path, mode, flags = arguments
            writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & _WRITING)
            outside = (
                writes and not isinstance(path, int) and not Path(os.fsdecode(path)).resolve().is_relative_to(inside)
            )
        if outside or event.startswith(_PROCESSES + _FILES):
            raise PermissionError(f"the file asked for {event}")

    sys.addaudithook(hook)


def main(source: str, result: str) -> int:
    """Load ``source`` with ``weights_only=True`` and write its tensors to ``result``; returns the exit code."""
    confine(Path(source).stat().st_size)
    import torch
    from safetensors.torch import save_file

    forbid(Path(result).parent)
    try:
        loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file; its advice, which is long, is left out
        sys.stderr.write(f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0][:200]}\n")
        return 1
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(one, torch.Tensor) for one in loaded.values()):
        sys.stderr.write("not a dictionary of tensors, nor one under the key state_dict\n")
        return 1
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in loaded.values())
    if claimed > min(MOST_BYTES, 16 * Path(source).stat().st_size):
        sys.stderr.write(f"tensors that claim {claimed:,} bytes, from a file of {Path(source).stat().st_size:,}\n")
        return 1
    save_file({str(name): tensor.detach().contiguous().clone() for name, tensor in loaded.items()}, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
