"""What a network says of images, told by a process that has seen nothing but them.

A network may keep state where no digest sees it, in a list or a global for example, and so answer an attack otherwise
than whoever asks next; or its answer may hang on the other images of a batch. So what counts is not what it said while
it was attacked: a process forked for this one question is given the final images, in another order and in batches of
another size.

All such processes stem from one that was forked before anything a policy names was loaded, by way of one a target that
builds the network and never uses it. Questions and answers are plain data: JSON lines, and arrays in files.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.building import build
from audit.errors import AuditError, TargetError
from audit.target import PREDICT_BATCH, Blueprint, TorchTarget
from audit.trial import Answered
from audit.workers import forked

BATCH, ORDER_SEED = 64, 40_000  # not those of the process that attacks
Line = dict[str, Any]


class FreshProcesses:
    """Puts questions to targets, each in a process of its own; only the process that made this may ask."""

    def __init__(self) -> None:
        """Fork the process that all others stem from; nothing that a policy names is loaded yet."""
        self._owner, self._builders = os.getpid(), dict[int, _Builder]()
        ours, theirs = socket.socketpair()
        self._origin = forked(partial(_origin, theirs, ours))
        self._door = ours
        theirs.close()
        self._folder = tempfile.TemporaryDirectory()

    def serves(self, target: TorchTarget) -> bool:
        """Tell whether a target can be built again, and this process may ask."""
        return target.blueprint is not None and os.getpid() == self._owner

    def answered(self, target: TorchTarget, images: Tensor) -> Answered:
        """Return what a process that sees nothing else says of (N, C, H, W) float32 images.

        Raises:
            TargetError: it refuses them, cannot build the target, or ends without an answer.
        """
        if not len(images):
            return Answered(torch.zeros(0, target.classes), 0.0)
        question, answer = Path(self._folder.name) / "images.npy", Path(self._folder.name) / "logits.npy"
        np.save(question, images.numpy(), allow_pickle=False)
        try:
            asked = {"images": str(question), "logits": str(answer), "device": str(target.device)}
            said = self._builder(target).ask(json.dumps(asked))
            return Answered(_checked(target, answer, len(images)), float(said["seconds"]))
        finally:
            question.unlink()
            answer.unlink(missing_ok=True)

    def close(self) -> None:
        """End all of them."""
        if os.getpid() != self._owner:
            return
        for one in self._builders.values():
            one.close()
        self._builders.clear()
        self._door.close()
        os.kill(self._origin, signal.SIGKILL)  # forked processes may hold the door open; what it forked dies with it
        os.waitpid(self._origin, 0)
        self._folder.cleanup()

    def _builder(self, target: TorchTarget) -> _Builder:
        if id(target) not in self._builders:
            ours, theirs = socket.socketpair()
            socket.send_fds(self._door, [b"x"], [theirs.fileno()])
            theirs.close()
            self._builders[id(target)] = _Builder(target, ours)
        self._builders[id(target)].build()
        return self._builders[id(target)]


def fresh_processes() -> FreshProcesses | None:
    """Return processes to ask; None where none can be forked."""
    return FreshProcesses() if sys.platform == "linux" else None


class _Builder:
    """A process that has built a target and never used it, as seen by who asks."""

    def __init__(self, target: TorchTarget, connection: socket.socket) -> None:
        """Ask over a connection that such a process listens to; nothing is said yet."""
        self._target, self._connection = target, connection  # the target is held, so that its id stays its own
        self._lines = connection.makefile("rw", encoding="utf-8")
        self._asked = False
        self._refusal: TargetError | None = None

    def build(self) -> None:
        """Have the target built, unless it was; what was refused once stays refused.

        Raises:
            TargetError: it cannot be, or is another network than here.
        """
        if not self._asked:
            self._asked = True
            try:
                self._build()
            except TargetError as error:
                self._refusal = error
        if self._refusal is not None:
            raise self._refusal

    def ask(self, line: str) -> Line:
        """Send a line of JSON and return the answer.

        Raises:
            TargetError: it refused, or ended.
        """
        try:
            self._lines.write(f"{line}\n")
            self._lines.flush()
            text = self._lines.readline()
            said = json.loads(text) if text else {"refused": "its process ended before it said anything"}
        except (OSError, ValueError) as error:
            said = {"refused": f"its process broke off ({type(error).__name__})"}
        if not isinstance(said, dict) or "refused" in said:
            why = said["refused"] if isinstance(said, dict) else "its process did not answer in JSON"
            raise TargetError(f"target {self._target.name}, asked in a process of its own: {why}")
        return said

    def _build(self) -> None:
        blueprint = self._target.blueprint.model_dump_json() if self._target.blueprint else ""
        if self.ask(blueprint)["digest"] != self._target.digest:
            raise TargetError(
                f"target {self._target.name}: another process built another network of the same factory, weights and "
                "sources; what a factory draws must come from torch's or NumPy's generators, or from the weight file"
            )

    def close(self) -> None:
        """Let it end."""
        self._lines.close()
        self._connection.close()


def _checked(target: TorchTarget, file: Path, count: int) -> Tensor:
    """Return the logits that a process left: (count, classes) float32 numbers, -inf among them at most."""
    logits = np.load(file, allow_pickle=False)
    if logits.shape != (count, target.classes) or logits.dtype != np.float32 or not (logits < np.inf).all():
        raise TargetError(
            f"target {target.name}, asked in a process of its own: expected ({count}, {target.classes}) float32 "
            f"logits, got {logits.shape} {logits.dtype}, or some that are no numbers"
        )
    return torch.from_numpy(logits)


def _origin(door: socket.socket, theirs: socket.socket) -> None:
    """Fork a builder for every connection that is handed over, until the door is closed."""
    theirs.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a builder ended
    while True:
        _, descriptors, *_ = socket.recv_fds(door, 1, 1)
        if not descriptors:
            return
        connection = socket.socket(fileno=descriptors[0])
        forked(partial(_build, connection, door))
        connection.close()


def _build(connection: socket.socket, door: socket.socket) -> None:
    """Build the target of the first line; then answer each line in a process forked for it."""
    door.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw", encoding="utf-8") as lines:

        def say(line: Line) -> None:
            lines.write(f"{json.dumps(line)}\n")
            lines.flush()

        said, target = _built(lines.readline())
        say(said)
        if target is not None:
            for line in lines:
                say(_in_a_process(partial(_logits, target, json.loads(line))))


def _built(blueprint: str) -> tuple[Line, TorchTarget | None]:
    """Build on the CPU: a process that uses a GPU cannot fork."""
    try:
        target = build(Blueprint.model_validate_json(blueprint), torch.device("cpu"))
    except Exception as error:  # foreign code, which may raise anything
        return {"refused": _text(error)}, None
    return {"digest": target.digest}, target


def _in_a_process(work: Callable[[], Line]) -> Line:
    """Do a piece of work in a process forked for it, and return what it says; the network here stays unused."""
    reader, writer = os.pipe()

    def tell() -> None:
        try:
            said = work()
        except Exception as error:  # as above
            said = {"refused": _text(error)}
        os.write(writer, json.dumps(said).encode())

    process = forked(tell)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as end:
        text = end.read()
    _, status = os.waitpid(process, 0)
    if not text:
        return {"refused": f"its process ended with {os.waitstatus_to_exitcode(status)} and said nothing"}
    said: Line = json.loads(text)
    return said


def _logits(target: TorchTarget, asked: Line) -> Line:
    """Answer for images in a file, in another order; what draws at random is asked as it always is."""
    target = target.on(torch.device(asked["device"]))
    images = torch.from_numpy(np.load(asked["images"], allow_pickle=False))
    order, size = torch.arange(len(images)), PREDICT_BATCH
    if target.draws == 1:
        order, size = torch.randperm(len(images), generator=torch.Generator().manual_seed(ORDER_SEED)), BATCH
    begun = time.perf_counter()
    answers = target.all_logits(images[order], size)
    seconds = time.perf_counter() - begun
    logits = torch.empty_like(answers)
    logits[order] = answers
    np.save(asked["logits"], logits.numpy(), allow_pickle=False)
    return {"seconds": seconds}


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, AuditError) else f"{type(error).__name__}: {error}"
