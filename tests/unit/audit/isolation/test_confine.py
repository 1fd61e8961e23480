"""What a process gave up it cannot do, whatever it tries; what it keeps it can."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from audit.errors import WorkerFailed
from audit.isolation import confine as module
from audit.isolation.confine import Rights, confine, missing
from audit.workers import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux" or bool(missing()), reason="the kernel has no such means")
MEBIBYTE = 2**20
SHARED = Path(os.sep, "dev", "shm")


def after(rights, work):
    """Return the name of the error that work raises in a process of these rights, or what it returns."""
    reader, writer = os.pipe()

    def tell():
        confine(rights)
        try:
            said = work()
        except BaseException as error:
            said = type(error).__name__
        os.write(writer, json.dumps(said).encode())

    process = forked(tell)
    os.close(writer)
    with os.fdopen(reader) as end:
        text = end.read()
    _, status = os.waitpid(process, 0)
    return json.loads(text) if text else os.waitstatus_to_exitcode(status)


def write(path, mode="w"):
    with path.open(mode):
        return "done"


def order(path, give, *what):
    with path.open("rb") as file:
        give(file, *what)
    return "done"


def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)[1]


def thread():
    one = threading.Thread(target=lambda: None)
    one.start()
    one.join()
    return "done"


ATTEMPTS = {
    "a new file": (lambda folder: write(folder / "new"), Rights(writes=True)),
    "a file that is there": (lambda folder: write(folder / "there", "a"), Rights(writes=True)),
    "a file in memory": (lambda folder: write(SHARED / folder.name), Rights(writes=True)),
    "a cut file": (lambda folder: os.truncate(folder / "there", 1), Rights(writes=True)),
    "a removed file": (lambda folder: (folder / "there").unlink(), Rights(writes=True)),
    "a renamed file": (lambda folder: str((folder / "there").rename(folder / "other")), Rights(writes=True)),
    "a folder": (lambda folder: (folder / "new").mkdir(), Rights(writes=True)),
    "a link": (lambda folder: (folder / "new").symlink_to("there"), Rights(writes=True)),
    "a mode": (lambda folder: (folder / "there").chmod(0o600), Rights(writes=True)),
    "a time": (lambda folder: os.utime(folder / "there"), Rights(writes=True)),
    "a hint": (lambda folder: order(folder / "there", fcntl.fcntl, 1036, struct.pack("Q", 4)), Rights(writes=True)),
    "a lock": (lambda folder: order(folder / "there", fcntl.lockf, fcntl.LOCK_SH, 0), Rights(writes=True)),
    "a lock of all": (lambda folder: order(folder / "there", fcntl.flock, fcntl.LOCK_SH), Rights(writes=True)),
    "a lease": (lambda folder: order(folder / "there", fcntl.fcntl, 1024, 0), Rights(writes=True)),
    "a socket": (lambda folder: socket.socket().close(), Rights(network=True)),
    "a local socket": (lambda folder: socket.socket(socket.AF_UNIX).close(), Rights(network=True)),
    "a pair of sockets": (lambda folder: [one.close() for one in socket.socketpair()] and None, Rights(writes=True)),
    "a process": (lambda folder: fork(), Rights()),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_is_given_up_is_gone_and_nothing_else(tmp_path, name):
    attempt, enough = ATTEMPTS[name]
    (tmp_path / "there").write_text("there")
    assert after(Rights(processes=False), lambda: attempt(tmp_path)) == "PermissionError"
    assert after(enough, lambda: attempt(tmp_path)) in (None, 0, "done", [], str(tmp_path / "other"))
    (SHARED / tmp_path.name).unlink(missing_ok=True)


KEPT = {
    "reading": lambda: len(Path(__file__).read_text()) > 0,
    "the null device": lambda: write(Path(os.devnull)) == "done",
    "threads": lambda: thread() == "done",
    "arithmetic on several threads": lambda: bool((torch.ones(300, 300) @ torch.ones(300, 300))[0, 0] == 300),
    "memory of its own": lambda: len(mmap.mmap(-1, MEBIBYTE)) == MEBIBYTE,
}


@pytest.mark.parametrize("name", KEPT)
def test_what_a_network_needs_it_keeps(name):
    assert after(Rights(processes=False), KEPT[name]) is True


ORDERS = {
    "attributes": (0x40086602, struct.pack("L", 0x40)),
    "other attributes": (0x401C5820, struct.pack("I24x", 0x80)),
    "a version": (0x40087602, struct.pack("L", 77)),
    "a letter typed": (0x5412, b"x"),
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("rights", [Rights(), Rights(writes=True), Rights(devices=True)], ids=["", "writes", "devices"])
def test_no_order_marks_a_file_or_types_at_a_terminal(tmp_path, name, rights):
    """A number that a network leaves with a file that it may read is a message to the process that judges."""
    (tmp_path / "there").write_text("there")
    assert after(rights, lambda: order(tmp_path / "there", fcntl.ioctl, *ORDERS[name])) == "PermissionError"


TO_OTHERS = {
    "reading its memory": lambda other: write(Path(f"/proc/{other}/mem"), "rb"),
    "a signal": lambda other: os.kill(other, 0),
    "its priority": lambda other: os.setpriority(os.PRIO_PROCESS, other, 1),
    "its cores": lambda other: os.sched_setaffinity(other, {0}),
    "its limits": lambda other: resource.prlimit(other, resource.RLIMIT_CORE, (0, 0)),
}


@pytest.mark.parametrize("name", TO_OTHERS)
@pytest.mark.parametrize("rights", [Rights(), Rights(network=True, writes=True)], ids=["network", "data factory"])
def test_a_process_above_is_out_of_reach(name, rights):
    parent = os.getpid()
    assert after(rights, lambda: TO_OTHERS[name](parent)) == "PermissionError"


CALLS = {
    "a key": lambda libc: libc.syscall(248, b"user", b"x", b"y", 1, -4),
    "a namespace": lambda libc: libc.unshare(0x10000000),
    "a queue": lambda libc: libc.syscall(240, b"x", 0x42, 0o600, None),
    "faults": lambda libc: libc.syscall(323, 1),
    "a program in the kernel": lambda libc: libc.syscall(321, 0, None, 0),
    "shared memory": lambda libc: libc.shmget(1234, 4096, 0o1600),
    "to outlive its parent": lambda libc: libc.prctl(1, 0, 0, 0, 0),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls are those of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_calls_that_reach_others_are_refused(name):
    assert after(Rights(writes=True), lambda: said(CALLS[name])) == [-1, errno.EACCES]


def said(call):
    """Return what a call of the system returns, and its error."""
    return [call(ctypes.CDLL(None, use_errno=True)), ctypes.get_errno()]


MARKS = {
    "a watch": lambda libc: libc.inotify_init(),
    "attributes by name": lambda libc: libc.syscall(469, -100, b"/nowhere", struct.pack("Q16x", 0x80), 24, 0),
}


@pytest.mark.parametrize("name", MARKS)
def test_calls_that_mark_or_watch_files_are_refused(name):
    assert after(Rights(), lambda: said(MARKS[name])) == [-1, errno.EACCES]


def test_memory_has_an_end():
    assert after(Rights(memory=2**36), lambda: len(bytearray(MEBIBYTE))) == MEBIBYTE
    assert after(Rights(memory=64 * MEBIBYTE), lambda: len(bytearray(2**32))) == "MemoryError"


def test_processor_time_has_an_end():
    def turn():
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass

    assert after(Rights(cpu_seconds=1), turn) in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_system_that_refuses_is_told(monkeypatch):
    monkeypatch.setattr(module, "_SECCOMP", 9999)
    assert after_raw() == "WorkerFailed: the system refused a seccomp filter: Invalid argument"


def after_raw():
    """Return what confining itself raises."""
    reader, writer = os.pipe()

    def tell():
        try:
            confine(Rights())
        except WorkerFailed as error:
            os.write(writer, f"WorkerFailed: {error}".encode())

    process = forked(tell)
    os.close(writer)
    with os.fdopen(reader) as end:
        text = end.read()
    os.waitpid(process, 0)
    return text


def test_elsewhere_nothing_is_given_up_and_that_is_said(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    confine(Rights())
    assert missing()[:2] == ("the network", "files to write")


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        (0, ("files to write", "other processes' memory", "cutting files", "signals to other processes")),
        (2, ("cutting files", "signals to other processes")),
        (5, ("signals to other processes",)),
        (6, ()),
    ],
)
def test_an_older_kernel_is_told(monkeypatch, version, kept):
    monkeypatch.setattr(module, "landlock_version", lambda: version)
    assert missing() == kept
