"""Mutated good files: each is refused with our own error, or gives exactly the good weights. Nothing else happens."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from audit.artifacts import torch_file
from audit.artifacts.safetensors_file import parse
from audit.artifacts.weights import load_weights
from audit.errors import IntegrityError

STATE = {"conv.weight": torch.arange(24.0).view(2, 3, 4), "conv.bias": torch.ones(2), "steps": torch.tensor(7)}
SAFETENSORS = save(STATE)
HEADER = 8 + int.from_bytes(SAFETENSORS[:8], "little")
QUIETLY = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def archive():
    stream = io.BytesIO()
    torch.save(STATE, stream)
    return stream.getvalue()


ARCHIVE = archive()


@st.composite
def mutations(draw, good):
    """Draw a few changes: bytes set, runs of them removed, doubled or inserted, the end cut off."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 16))
        kind = draw(st.sampled_from(("set", "remove", "double", "insert", "cut", "swap")))
        if kind == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "remove":
            del content[at : at + length]
        elif kind == "double":
            content[at:at] = content[at : at + length]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "cut":
            del content[at:]
        else:
            other = draw(st.integers(0, max(len(content) - 1, 0)))
            content[at : at + 1], content[other : other + 1] = content[other : other + 1], content[at : at + 1]
    return bytes(content)


@QUIETLY
@given(mutations(SAFETENSORS))
def test_a_pinned_file_that_was_changed_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)
    pinned = hashlib.sha256(SAFETENSORS).hexdigest()
    if content == SAFETENSORS:
        return
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        load_weights(path, pinned)


@QUIETLY
@given(mutations(SAFETENSORS[:HEADER]))
def test_a_changed_header_never_crashes_and_never_gives_other_numbers(header):
    """Whatever is read from an unpinned file lies in it, under limits, and is all of it."""
    content = header + SAFETENSORS[HEADER:]
    try:
        found = parse(content, "mutated")
    except IntegrityError:
        return
    assert sum(tensor.numel() * tensor.element_size() for tensor in found.values()) == len(SAFETENSORS) - HEADER
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values() if tensor.is_floating_point())


@QUIETLY
@given(mutations(ARCHIVE))
def test_a_changed_archive_is_refused_or_holds_what_the_good_one_holds(content):
    """What reaches the child is an archive of ours, whose members passed their checksums and the scan."""
    if not content.startswith(b"PK\x03\x04"):
        return
    try:
        fresh = torch_file._packed_anew(content, "mutated")
    except IntegrityError:
        return
    with zipfile.ZipFile(io.BytesIO(fresh)) as found, zipfile.ZipFile(io.BytesIO(ARCHIVE)) as good:
        (pickled,) = [name for name in found.namelist() if name.endswith("/data.pkl")]
        assert found.read(pickled) == good.read(next(name for name in good.namelist() if name.endswith("/data.pkl")))
        bodies = {good.read(name) for name in good.namelist()}
        assert all(found.read(name) in bodies for name in found.namelist())


@QUIETLY
@given(st.binary(max_size=200))
def test_bytes_at_random_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.bin"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"random\.bin"):
        load_weights(path, None)
