"""What a process gives up before it runs third-party code, by the kernel's own means, so that no code can undo it.

On Linux a seccomp filter takes sockets, and with them the network; memory that processes share by number; the memory of
other processes; and, where asked for, new processes. Landlock takes every way to write a file. Limits of the system
bound memory and processor time. None of it needs privileges, and all of it is inherited.

Sources: seccomp(2), landlock(7), setrlimit(2); numbers of system calls from the kernel's asm/unistd_64.h and
asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.errors import WorkerFailed
from audit.workers import DIE_WITH_PARENT

CPU_SECONDS = 6 * 3600  # of one process that answers for a network
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH, _VERSION = 1, 1  # linux/landlock.h
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_REMOVE_AND_MAKE, _MAKE_DEVICES, _REFER = 0b1_1111_1111 << 4, 1 << 6 | 1 << 11, 1 << 13
_WRITES = _WRITE_FILE | _REMOVE_AND_MAKE | _REFER | _TRUNCATE
_SIGNALS_AND_SOCKETS = 0b11  # scopes
_REFER_SINCE, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6  # versions
_LOAD, _IS, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE, _ABSENT = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x00050000 | errno.ENOSYS
_OTHER_ABI = 0x40000000  # x32's bit
_CLONE_THREAD = 0x10000
_ABOUT_A_TERMINAL = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # asm/ioctls.h; and what is inherited
_TYPES_AND_MARKS = (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x40047602, 0x40086604)
_ABOUT_ITSELF = (0, 1, 2, 3, 4, 1030, 1033, 1034)  # F_DUPFD to F_SETFL, F_DUPFD_CLOEXEC, seals; linux/fcntl.h


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of system calls on an architecture."""

    architecture: int
    network: tuple[int, ...]  # socket, io_uring_setup
    sockets: tuple[int, ...]  # what else makes or moves one: socketpair, connect, bind, listen, accept, accept4
    others: tuple[int, ...]  # memory, keys, priorities, namespaces and queues that processes share; see the test
    own: tuple[tuple[int, int], ...]  # refused unless the first argument is the number: limits and cores of oneself
    prctl: int
    processes: tuple[int, ...]
    clone: int
    about_files: tuple[int, ...]  # owners, modes, times and attributes, which Landlock leaves alone
    locks_and_watches: tuple[int, ...]  # of files, by which processes side by side could speak
    fcntl: int
    ioctl: int


_CALLS = {
    "x86_64": _Calls(
        architecture=0xC000003E,
        network=(41, 425),
        sockets=(53, 42, 49, 50, 43, 288),
        others=(
            29,
            68,
            64,
            101,
            310,
            311,
            240,
            248,
            249,
            250,
            141,
            142,
            144,
            251,
            272,
            298,
            308,
            314,
            321,
            323,
            438,
            440,
        ),
        own=((302, 0), (203, 0)),
        prctl=157,
        processes=(57, 58, 59, 322),
        clone=56,
        about_files=(90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466),
        locks_and_watches=(73, 253, 294, 300),
        fcntl=72,
        ioctl=16,
    ),
    "aarch64": _Calls(
        architecture=0xC00000B7,
        network=(198, 425),
        sockets=(199, 203, 200, 201, 202, 242),
        others=(
            194,
            186,
            190,
            117,
            270,
            271,
            180,
            217,
            218,
            219,
            140,
            118,
            119,
            30,
            97,
            241,
            268,
            274,
            280,
            282,
            438,
            440,
        ),
        own=((261, 0), (122, 0)),
        prctl=167,
        processes=(221, 281),
        clone=220,
        about_files=(52, 53, 452, 54, 55, 88, 5, 6, 7, 14, 15, 16, 463, 466),
        locks_and_watches=(32, 26, 262),
        fcntl=25,
        ioctl=29,
    ),
}
_CLONE3, _FILE_SETATTR = 435, 469


@dataclass(frozen=True, slots=True)
class Rights:
    """What a process keeps: the network, files to write, devices, new processes; bytes of memory of its own."""

    network: bool = False
    writes: bool = False
    devices: bool = False
    processes: bool = True
    memory: int | None = None
    cpu_seconds: int | None = None


def confine(rights: Rights) -> None:
    """Give up what is not among the rights, for this process and all that it starts; there is no way back.

    Where the system has no such means the process goes on with what it could give up; :func:`missing` tells.

    Raises:
        WorkerFailed: the system refused.
    """
    if sys.platform != "linux":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, rights.memory),
        (resource.RLIMIT_FSIZE, None if rights.writes else rights.memory),  # of files without a name as well
        (resource.RLIMIT_CPU, rights.cpu_seconds),
    ):
        if most is not None:
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    _done(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
    if landlock_version():
        refused = _MAKE_DEVICES if rights.writes else _WRITES
        _forbid(libc, refused, [os.devnull, *(map(str, Path("/dev").glob("nvidia*")) if rights.devices else ())])
    calls = _CALLS.get(platform.machine())
    if calls is not None:
        _filter(libc, list(_program(calls, rights)))


def missing() -> tuple[str, ...]:
    """Return what third-party code keeps here though it should not, in words."""
    version = landlock_version()
    return (
        *(("the network",) if sys.platform != "linux" or platform.machine() not in _CALLS else ()),
        *(("files to write", "other processes' memory") if not version else ()),
        *(("cutting files",) if version < _TRUNCATE_SINCE else ()),
        *(("signals to other processes",) if version < _SCOPES_SINCE else ()),
    )


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has, 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION)))


def memory() -> int:
    """Return how much memory the machine has, in bytes."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _forbid(libc: ctypes.CDLL, refused: int, but: Iterable[str]) -> None:
    """Let nothing of this kind be done any more to files but those of these names; reading stays free.

    Whatever is refused, a process under Landlock can no longer look into those that are not.
    """
    version = landlock_version()
    handled = refused & ~(0 if version >= _REFER_SINCE else _REFER) & ~(0 if version >= _TRUNCATE_SINCE else _TRUNCATE)
    scoped = _SIGNALS_AND_SOCKETS if version >= _SCOPES_SINCE else 0
    attributes = struct.pack("QQQ", handled, 0, scoped)[: 24 if version >= _SCOPES_SINCE else 8]
    rules = _done(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0), "a Landlock ruleset")
    try:
        for name in but if handled & _WRITE_FILE else ():
            file = os.open(name, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", _WRITE_FILE, file)
            _done(libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0), "a Landlock rule")
            os.close(file)
        _done(libc.syscall(_RESTRICT_SELF, rules, 0), "Landlock")
    finally:
        os.close(rules)


def _program(calls: _Calls, rights: Rights) -> Iterator[tuple[int, int, int, int]]:
    """Yield the filter's instructions: (code, jump if true, jump if false, number)."""
    refused = [*calls.others]
    refused += [] if rights.network else calls.network
    refused += [] if rights.writes else [*calls.about_files, _FILE_SETATTR, *calls.locks_and_watches, *calls.sockets]
    refused += [] if rights.processes else calls.processes
    yield _LOAD, 0, 0, 4  # the architecture
    yield _IS, 1, 0, calls.architecture
    yield _RETURN, 0, 0, _REFUSE
    yield _LOAD, 0, 0, 0  # the number of the call
    for test, number in ((_AT_LEAST, _OTHER_ABI), *((_IS, one) for one in refused)):
        yield test, 0, 1, number
        yield _RETURN, 0, 0, _REFUSE
    for call, number in calls.own:
        yield from _unless(call, (_IS, 1, 0, number))
    yield from _unless(calls.prctl, (_IS, 0, 1, DIE_WITH_PARENT))
    if rights.writes or rights.devices:  # a device has orders of its own
        for order in _TYPES_AND_MARKS:
            yield from _unless(calls.ioctl, (_IS, 0, 1, order), argument=1)
    else:
        yield from _but_for(calls.ioctl, _ABOUT_A_TERMINAL)
    if not rights.writes:
        yield from _but_for(calls.fcntl, _ABOUT_ITSELF)
    if not rights.processes:
        yield _IS, 0, 1, _CLONE3  # its flags lie in memory, which a filter cannot read; the C library then uses clone
        yield _RETURN, 0, 0, _ABSENT
        yield from _unless(calls.clone, (_HAS_BITS, 1, 0, _CLONE_THREAD))
    yield _RETURN, 0, 0, _ALLOW


def _unless(call: int, *tests: tuple[int, int, int, int], argument: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield what refuses a call unless a test of an argument jumps; afterwards the call's number is loaded."""
    yield _IS, 0, len(tests) + 3, call
    yield _LOAD, 0, 0, 16 + 8 * argument
    yield from tests
    yield _RETURN, 0, 0, _REFUSE
    yield _LOAD, 0, 0, 0


def _but_for(call: int, orders: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Yield what refuses a call unless its second argument is one of these orders."""
    yield from _unless(call, *((_IS, len(orders) - at, 0, order) for at, order in enumerate(orders)), argument=1)


def _filter(libc: ctypes.CDLL, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog, padded as C does
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(held)))
    _done(libc.prctl(_SECCOMP, _FILTER, whole, 0, 0), "a seccomp filter")


def _done(result: int, what: str) -> int:
    if result < 0:
        raise WorkerFailed(f"the system refused {what}: {os.strerror(ctypes.get_errno())}")
    return result
