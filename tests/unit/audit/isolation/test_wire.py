"""What comes over a wire is believed as far as it has the form that was asked for."""

from __future__ import annotations

import json
import mmap
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.errors import IntegrityError, ThirdPartyFailed, WorkerFailed
from audit.isolation import wire
from audit.isolation.caller import Caller
from audit.isolation.wire import Document, Shared, nameless, pair, read_document, write_document

OPEN_FILES = Path("/proc/self/fd")


def asking(ours, seconds=5):
    """Return who asks over a wire; a process that has ended long ago stands for the one that answers."""
    child = os.fork()
    if not child:
        os._exit(0)
    process = os.pidfd_open(child)
    os.waitpid(child, 0)
    ours.patience(seconds)
    return Caller(ours, process, "target x", (IntegrityError,))


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (b"no json", ThirdPartyFailed, "its process broke off"),
        (b"[1]", ThirdPartyFailed, "its process broke off"),
        (b"[" * 50_000, ThirdPartyFailed, "its process broke off"),
        (b"\xff\xfe", ThirdPartyFailed, "its process broke off"),
        (json.dumps({"error": "IntegrityError", "text": "w: bad"}).encode(), IntegrityError, "w: bad"),
        (json.dumps({"error": "SystemExit", "text": "0"}).encode(), ThirdPartyFailed, "^0$"),
        (json.dumps({"error": "KeyboardInterrupt", "text": "x"}).encode(), ThirdPartyFailed, "^x$"),
        (json.dumps({"error": ["IntegrityError"], "text": 3}).encode(), ThirdPartyFailed, "^3$"),
        (json.dumps({"error": "x", "text": "\x1b[2J gate OPEN\r"}).encode(), ThirdPartyFailed, r"^ \[2J gate OPEN $"),
    ],
)
def test_an_answer_is_an_answer_or_a_refusal(said, error, message):
    ours, theirs = pair()
    theirs.socket.send(said)
    with pytest.raises(error, match=message):
        asking(ours).ask({"what": "unchanged"})


def test_who_does_not_answer_is_not_waited_for():
    ours, theirs = pair()
    with pytest.raises(ThirdPartyFailed, match="target x: its process did not answer in time"):
        asking(ours, 0.05).ask({"what": "unchanged"})
    ours, theirs = pair()
    theirs.close()
    with pytest.raises(ThirdPartyFailed, match="target x: its process"):
        asking(ours, 0.05).ask({"what": "unchanged"})


def test_files_that_come_with_an_answer_are_not_kept():
    ours, theirs = pair()
    answer = threading.Thread(target=lambda: (theirs.receive(), theirs.send({"unchanged": True}, 0)))
    answer.start()
    caller = asking(ours)
    before = len(list(OPEN_FILES.iterdir()))
    assert caller.ask({"what": "unchanged"}) == {"unchanged": True}
    answer.join()
    assert len(list(OPEN_FILES.iterdir())) == before


def test_shared_memory_keeps_its_size():
    """Otherwise whoever cuts it has the reader killed by a bus error."""
    shared = Shared.make(4096)
    shared.array(0, (3,))[:] = [1, 2, 3]
    with pytest.raises(PermissionError):
        os.ftruncate(shared.descriptor, 0)
    other = mmap.mmap(shared.descriptor, 4096)  # as another process has it
    assert np.array_equal(np.frombuffer(other, np.float32, 3), [1, 2, 3])


def test_a_document_comes_back_as_it_was_and_cannot_be_changed():
    tensors = {"a": torch.rand(3, 2), "none": torch.empty(0), "whole": torch.arange(4), "half": torch.rand(2).half()}
    document = Document({"name": "x"}, tensors)
    said, found = read_document(document.descriptor)
    assert said == {"name": "x"}
    assert all(torch.equal(found[name], one) for name, one in tensors.items())
    with pytest.raises(PermissionError):
        os.pwrite(document.descriptor, b"x", 0)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"[" * 90_000])
def test_what_is_no_document_is_refused(content):
    descriptor = nameless()
    os.write(descriptor, content)
    with pytest.raises(WorkerFailed, match="expected JSON and tensors from another process"):
        read_document(descriptor)
    os.close(descriptor)


def test_a_document_has_an_end(monkeypatch):
    descriptor = nameless()
    write_document(descriptor, "much", {"a": torch.rand(1000)})
    monkeypatch.setattr(wire, "memory", lambda: 4000)
    with pytest.raises(WorkerFailed, match=r"expected at most 1,000 bytes from another process, got 4,.*, or holes"):
        read_document(descriptor)
    os.close(descriptor)


def test_a_document_with_holes_is_refused():
    """It costs its writer nothing, and its reader memory."""
    descriptor = nameless()
    os.ftruncate(descriptor, 2**24)
    with pytest.raises(WorkerFailed, match="got 16,777,216, or holes"):
        read_document(descriptor)
    os.close(descriptor)
