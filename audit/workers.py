"""Pieces of work side by side, each in a process of one thread: forked, so that a piece needs no description of itself.

Torch spreads one operation over threads, which on small tensors gains little and on busy cores loses almost everything:
each operation waits for the slowest thread. Processes of one thread share the cores with whatever else runs.

A forked process has everything its parent had loaded, and shares its memory; what it finds it leaves in the store, or
returns as text. It dies with its parent. Forking is for Linux, and for processes that have no GPU in use: elsewhere,
and with one job, everything is done in turn, by the parent, with the same results.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from audit.errors import WorkerFailed

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, linux/prctl.h
SECONDS_TO_END = 5.0
LOOK_SECONDS = 0.2  # between looks at what no process tells by its end
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h of glibc; 32 MiB is the most that it takes for the first
LARGEST_KEPT, MOST_KEPT = 32 * 2**20, 512 * 2**20  # bytes: of a block, and of free memory
Work = Callable[[], object]
FORKING: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle() -> None:
    """Give torch one thread, here and in whatever is forked, and keep freed memory instead of handing it back.

    Each operation on a hundred images frees some megabytes that the next one asks for again. glibc maps blocks of that
    size anew each time, which costs a fifth of an attack's time in page faults.
    """
    _one_thread()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(TRIM_THRESHOLD, MOST_KEPT)


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent dies; end it now if that happened already.

    Nothing is done where there is no such thing, which is everywhere but on Linux.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


class Ahead:
    """A piece of work that was started before anybody needs what it returns."""

    def __init__(self, name: str, process: ForkProcess, answer: Path) -> None:
        """Watch a process that writes to ``answer``: a line that says whether it went well, and what it returned."""
        self.name, self._process, self._answer = name, process, answer

    @property
    def sentinel(self) -> int:
        """Return what becomes ready when it ends, for ``multiprocessing.connection.wait``."""
        return self._process.sentinel

    @property
    def running(self) -> bool:
        """Tell whether it still works."""
        return self._process.is_alive()

    def done_within(self, seconds: float) -> bool:
        """Wait for its end, but no longer than so many seconds; tell whether it ended."""
        self._process.join(seconds)
        return not self.running

    def result(self) -> str:
        """Wait for its end, and return what it returned.

        Raises:
            WorkerFailed: it raised something, or was killed.
        """
        self._process.join()
        if not self._answer.is_file():
            raise WorkerFailed(f"{self.name}: its process ended with {self._process.exitcode} and said nothing")
        verdict, _, text = self._answer.read_text(encoding="utf-8").partition("\n")
        if verdict != "done":
            raise WorkerFailed(text.strip().splitlines()[-1]) from WorkerFailed(text)
        return text


class Workers:
    """At most ``count`` processes at once that compute; with one, nothing is forked."""

    def __init__(self, count: int = 1) -> None:
        """Fork nothing yet."""
        self.count = self._cores = count if sys.platform == "linux" else 1
        if self.count > 1:  # shared with what is forked: pieces that somebody waits for, processes ahead that rest
            self._wanted, self._resting = FORKING.Value("i", 0, lock=False), FORKING.Value("i", 0)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._computing: list[Ahead] = []
        self._started: list[ForkProcess] = []
        self._asked = 0

    @property
    def parallel(self) -> bool:
        """Tell whether anything runs side by side."""
        return self.count > 1

    def side_by_side(self, pieces: Sequence[Work], done: Callable[[int], object] = lambda _: None) -> None:
        """Do pieces of work for what they leave in the store.

        Nothing is returned, and what one raises is not told: each is asked for again afterwards, finds what was left,
        or raises it again. So one process gives the same results as many.

        Args:
            pieces: what to do, in any order.
            done: told how many are finished, from time to time.
        """
        if not self.parallel or len(pieces) < 2:
            return
        waiting, running = list(pieces), dict[ForkProcess, int]()
        ours = sorted(os.sched_getaffinity(0))
        try:
            while waiting or running:
                self._wanted.value = len(waiting) + len(running)
                busy = max(0, sum(one.running for one in self._computing) - self._resting.value)
                while waiting and len(running) < max(1, self.count - busy):
                    taken = list(running.values())
                    core = min(ours, key=taken.count)
                    running[self._fork(partial(_on_core, core, waiting.pop(0)))] = core
                connection.wait([one.sentinel for one in running], LOOK_SECONDS if waiting else None)
                running = {one: core for one, core in running.items() if one.is_alive()}
                done(len(pieces) - len(waiting) - len(running))
        finally:
            self._wanted.value = 0
            for one in running:
                one.kill()

    def ahead(self, name: str, work: Callable[[], str], *, computes: bool) -> Ahead:
        """Start a piece of work whose answer is asked for later; one that computes counts as one of the processes."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory()
        self._asked += 1
        answer = Path(self._folder.name) / str(self._asked)

        def write() -> None:
            try:
                text = f"done\n{work()}"
            except Exception:
                text = f"failed\n{traceback.format_exc()}"
            scratch = answer.with_suffix(".part")
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(answer)

        started = Ahead(name, self._fork(write), answer)
        if computes:
            self._computing.append(started)
        return started

    def give_way(self) -> None:
        """Rest, in a process ahead, while there are pieces for every core that somebody waits for."""
        if self._wanted.value < self._cores:
            return
        with self._resting.get_lock():
            self._resting.value += 1
        try:
            while self._wanted.value >= self._cores:
                time.sleep(LOOK_SECONDS)
        finally:
            with self._resting.get_lock():
                self._resting.value -= 1

    def counter(self) -> Synchronized[int]:
        """Return a number that forked processes share, 0."""
        number: Synchronized[int] = FORKING.Value("i", 0)
        return number

    def join(self) -> None:
        """Wait until nothing runs any more."""
        for one in self._started:
            one.join()

    def close(self) -> None:
        """End whatever still runs."""
        for one in self._started:
            one.terminate()
        for one in self._started:
            one.join(SECONDS_TO_END)
            one.kill()
            one.join()
        self._started.clear()
        self._computing.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _fork(self, work: Work) -> ForkProcess:
        self._started = [one for one in self._started if one.is_alive()]
        process: ForkProcess = FORKING.Process(target=self._run, args=(work, os.getpid()), daemon=True)
        process.start()
        self._started.append(process)
        return process

    def _run(self, work: Work, parent: int) -> None:
        """Do a piece of work as a forked process."""
        _be_a_worker(parent)
        self.count, self._computing, self._started = 1, [], []
        with suppress(Exception):
            work()


def _on_core(core: int, work: Work) -> None:
    """Do a piece of work on one core: a process that asks another one by turns is slowed down by moving about."""
    os.sched_setaffinity(0, {core})
    work()


def forked(work: Work) -> int:
    """Fork a process that does one piece of work and ends; return its number. It ends with its parent."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _be_a_worker(parent)
        work()
        code = 0
    finally:
        os._exit(code)


def _be_a_worker(parent: int) -> None:
    """Make a process that was just forked silent, deaf to Ctrl-C, of one thread, and dead with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers and folders are cleaned up
    die_with(parent)
    nothing = Path(os.devnull).open("w")  # noqa: SIM115  # open as long as the process lives
    sys.stdout = sys.stderr = nothing
    os.dup2(nothing.fileno(), 1)
    os.dup2(nothing.fileno(), 2)
    _one_thread()


def _one_thread() -> None:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
