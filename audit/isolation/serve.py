"""What runs in a process for third-party code: it gives up what it must not have, loads what it was asked for, answers.

The process that all others stem from runs no code but the audit's own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit.building import build
from audit.errors import AuditError
from audit.isolation.code import Named, check, sources_of
from audit.isolation.confine import CPU_SECONDS, Rights, confine, memory
from audit.isolation.wire import MOST_FILES, MOST_LETTERS, Line, Shared, Wire, read_document, write_document
from audit.loading import Dataset, Samples, load_dataset
from audit.local import LocalTarget
from audit.randomness import seeded
from audit.target import Blueprint
from audit.workers import DIE_WITH_PARENT, SECONDS_TO_END, forked, settle

Loaded = tuple[Line, Callable[[Wire], None] | None]  # what is said, and what is done then
NOT_ALLOWED = (
    " (third-party code may read files here, but a network writes none, and starts nothing; see docs/your-own-model.md)"
)
ADOPT = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
Answer = Callable[[Line, list[int]], Line]


def origin(door: Wire, theirs: Wire) -> None:
    """Fork a process for every connection that is handed over, until the door is closed."""
    theirs.close()
    _hold_nothing_but(door)
    _outlive_what_is_forked()
    _fork_for_each(door, _begin)
    _end_all()


def _outlive_what_is_forked() -> None:
    """Adopt whatever loses its parent, and end all of it before this process ends, or when the audit is killed."""
    signal.signal(signal.SIGTERM, lambda *_: _end_all())
    libc = ctypes.CDLL(None)
    libc.prctl(ADOPT, 1)
    libc.prctl(DIE_WITH_PARENT, signal.SIGTERM)


def _end_all() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    until = time.monotonic() + SECONDS_TO_END
    while (left := children.read_text().split()) and time.monotonic() < until:
        for one in left:
            with suppress(ProcessLookupError):
                os.kill(int(one), signal.SIGKILL)
        time.sleep(0.01)
    os._exit(0)


def _hold_nothing_but(door: Wire) -> None:
    """Make every other file that was inherited the null device: whoever closes it later closes nothing else."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for descriptor in [int(one.name) for one in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in (null, door.socket.fileno()):
            with suppress(OSError):  # the listing's own is gone by now
                os.fstat(descriptor)
                os.dup2(null, descriptor)


def _fork_for_each(door: Wire, work: Callable[[Wire], None]) -> None:
    """Fork a process that does the work with each connection that comes through a door."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how one ended
    while True:
        try:
            _, descriptors = door.receive(files=1)
        except (EOFError, OSError, ValueError):
            return
        for descriptor in descriptors:
            wire = Wire(socket.socket(fileno=descriptor))

            def child(wire: Wire = wire) -> None:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                work(wire)

            try:
                process = os.pidfd_open(forked(child))
                wire.send({}, process)
                os.close(process)
            except OSError:  # whoever asks has gone, or there are too many processes
                continue
            finally:
                wire.close()


def _begin(wire: Wire) -> None:
    """Load what the first line asks for; then answer, or be what others are forked from."""
    _hold_nothing_but(wire)  # flags of a file are those of all who inherited it
    line, files = wire.receive(files=MOST_FILES)
    said, work = _guarded(LOADS[line["kind"]], line, files)
    wire.send(said)
    if work is not None:
        work(wire)


def _guarded(load: Callable[..., Loaded], line: Line, files: list[int]) -> Loaded:
    try:
        return load(line, *files)
    except BaseException as error:  # foreign code, which may raise anything
        return _refusal(error), None


def _refusal(error: BaseException) -> Line:
    """Return what is told of an error: its type, and its text."""
    if isinstance(error, AuditError):
        return {"error": type(error).__name__, "text": str(error)[:MOST_LETTERS]}
    text = f"{type(error).__name__}: {error}"[:MOST_LETTERS]
    return {"error": "", "text": f"{text}{NOT_ALLOWED}" if "ermission" in text else text}


def _serve(wire: Wire, answer: Answer) -> None:
    """Answer line by line until the other end is closed."""
    while True:
        try:
            line, files = wire.receive(files=MOST_FILES)
        except (EOFError, OSError):
            return
        try:
            said = answer(line, files)
        except BaseException as error:  # as above
            said = _refusal(error)
        wire.send(said)


def _target(line: Line, *weights: int) -> Loaded:
    """Build a target on the CPU: a process that uses a GPU cannot fork."""
    on_cpu = line["device"] == "cpu"  # one with a GPU reserves addresses without end
    confine(
        Rights(devices=not on_cpu, processes=False, memory=memory() // 2 if on_cpu else None, cpu_seconds=CPU_SECONDS)
    )
    settle()
    os.sched_setaffinity(0, line["cores"])
    states = {name: read_document(one)[1] for name, one in zip(line["weights"], weights, strict=True)}
    target = build(Blueprint.model_validate(line["blueprint"]), torch.device("cpu"), states)
    return {"digest": target.digest}, partial(_serve, answer=_Asked(target.on(torch.device(line["device"]))))


class _Asked:
    """Answers for a target; images and answers lie in memory that both ends see."""

    def __init__(self, target: LocalTarget) -> None:
        self._target = target
        self._shared: Shared | None = None
        self._graphs: dict[int, tuple[Tensor, Tensor]] = {}
        self._said = 0

    def __call__(self, line: Line, files: list[int]) -> Line:
        for graph in line.get("done", ()):
            self._graphs.pop(graph, None)
        answer: Answer = getattr(self, f"_{line['what']}")
        return answer(line, files)

    def _memory(self, line: Line, files: list[int]) -> Line:
        self._shared = Shared(files[0], line["size"])
        return {}

    def _logits(self, line: Line, files: list[int]) -> Line:
        x = self._array(0, line["shape"])
        ask = self._target.step_logits if line["steps"] else self._target.logits
        with seeded(line["seed"]) if line["seed"] is not None else nullcontext():
            if not line["slopes"]:
                with torch.no_grad():
                    logits = ask(x)
            else:
                logits = ask(x.requires_grad_())
        self._array(line["at"], tuple(logits.shape)).copy_(logits.detach())
        if not logits.requires_grad:
            return {"graph": None}
        self._said += 1
        self._graphs[self._said] = (x, logits)
        return {"graph": self._said}

    def _slope(self, line: Line, files: list[int]) -> Line:
        x, logits = self._graphs[line["graph"]]
        weights = self._array(line["weights_at"], tuple(logits.shape)).to(logits.device)
        # of a weighted sum: given weights, torch imports a computer algebra system first, which takes a second
        (slope,) = torch.autograd.grad((logits * weights).sum(), x, retain_graph=True)
        self._array(line["at"], tuple(x.shape)).copy_(slope)
        return {}

    def _forget(self, line: Line, files: list[int]) -> Line:
        self._target.forget()
        return {}

    def _unchanged(self, line: Line, files: list[int]) -> Line:
        return {"unchanged": self._target.unchanged()}

    def _features(self, line: Line, files: list[int]) -> Line:
        write_document(files[0], None, {"features": self._target.features(self._array(0, line["shape"]))})
        return {}

    def _tensors(self, line: Line, files: list[int]) -> Line:
        names, tensors = [], {}
        for place, (name, tensor) in enumerate(self._target.tensors()):
            names.append(name)
            tensors[str(place)] = tensor
        write_document(files[0], names, tensors)
        return {}

    def _array(self, offset: int, shape: Any) -> Tensor:
        if self._shared is None:
            raise AuditError("expected shared memory first")
        return torch.from_numpy(self._shared.array(offset, tuple(shape)))


def _dataset(line: Line, result: int) -> Loaded:
    """Load a dataset, and write its splits into the file."""
    confine(Rights(network=not line["offline"], writes=True, memory=memory()))
    data = load_dataset(line["reference"], Path(line["root"]), offline=line["offline"])
    tensors: dict[str, Tensor] = {}
    for name, split in (("audit", data.audit), ("training", data.training)):
        if split is not None:
            tensors |= {f"{name} images": split.images, f"{name} labels": split.labels}
    known = {"name": data.name, "classes": data.classes, "digest": data.digest, "files": dict(data.files)}
    write_document(result, known, tensors)
    os.close(result)
    return {}, partial(_fork_for_each, work=partial(_answer_for_source, data))


def _answer_for_source(data: Dataset, wire: Wire) -> None:
    confine(Rights(writes=True, memory=memory()))

    def answer(line: Line, files: list[int]) -> Line:
        if line["what"] == "training digest":
            return {"digest": data.source.training_digest(line["function"], line["recipe"])}
        sys.stdout.close()  # that of a silent process
        sys.stdout, sys.stderr = (os.fdopen(one, "w", buffering=1) for one in files[:2])
        examples = None
        if line["examples"]:
            _, found = read_document(files[2])
            examples = Samples(found["images"], found["labels"])
        made = data.source.train(
            line["trainer"],
            line["recipe"],
            device=line["device"],
            retrain=line["retrain"],
            seed=line["seed"],
            examples=examples,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        return {"path": str(made.path), "sha256": made.sha256, "notes": list(made.notes)}

    _serve(wire, answer)


def _code(line: Line, result: int) -> Loaded:
    """Import functions, or find the files that they and networks consist of."""
    confine(Rights(memory=memory() // 2))
    root, functions = Path(line["root"]), [Named(*one) for one in line["functions"]]
    if line["check"]:
        check(functions, root)
        write_document(result, None)
    else:
        write_document(result, sources_of(line["references"], functions, root)._asdict())
    return {}, None


LOADS: dict[str, Callable[..., Loaded]] = {"target": _target, "dataset": _dataset, "code": _code}
