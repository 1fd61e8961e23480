"""Malformed safetensors: lengths, offsets, shapes, types, names and numbers that a reader must not believe."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from audit.artifacts.corpus.specimen import Specimen
from audit.artifacts.safetensors_file import MOST_HEADER_BYTES


def malformed() -> Iterator[Specimen]:
    """Yield files whose header lies, or whose numbers are none."""
    for number, (what, content, refusal) in enumerate(_files()):
        yield Specimen(f"header-{number:02}.safetensors", f"safetensors: {what}", content, refusal)


def _files() -> Iterator[tuple[str, bytes, str]]:
    good, data = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, struct.pack("<2f", 1.0, 2.0)
    yield "a header of 2**63 bytes", (2**63).to_bytes(8, "little") + b"{}", "neither in 10 bytes"
    yield "a header longer than the file", (999).to_bytes(8, "little") + b'{"a":1}', "neither in 15 bytes"
    large = b'{"__metadata__":{}' + b" " * MOST_HEADER_BYTES + b"}"
    yield "a header beyond the limit", len(large).to_bytes(8, "little") + large, r"its header has 16,777,235 bytes"
    yield "a header that is no JSON", _raw(b"{not JSON at all}", b""), "with a JSON header"
    yield "a header nested a hundred thousand deep", _raw(b'{"a":' * 100_000, b""), "with a JSON header"
    entry = json.dumps(good).encode()
    yield "a key that occurs twice", _raw(b'{"a":' + entry + b',"a":' + entry + b"}", data), "a key that occurs twice"
    inside = b'{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}'
    yield "a dtype that occurs twice", _raw(inside, data), "a key that occurs twice"
    yield "metadata that are no texts", _file({"__metadata__": {"a": [1]}, "a": good}, data), "metadata are not"
    yield "overlapping tensors", _file({"a": good, "b": good}, data), "overlap or leave a gap at byte 0"
    hole = good | {"data_offsets": [12, 20]}
    yield "a gap between tensors", _file({"a": good, "b": hole}, data + bytes(12)), "overlap or leave a gap at byte 8"
    yield "bytes behind the last tensor", _file({"a": good}, data + b"hidden"), "describes 8 bytes .* but 14 follow"
    yield "too few bytes", _file({"a": good}, data[:5]), "describes 8 bytes .* but 5 follow"
    for what, changes, refusal in (
        ("offsets beyond the file", {"data_offsets": [10**15, 10**15 + 8]}, "overlap or leave a gap"),
        ("offsets that run backwards", {"data_offsets": [8, 0]}, "which do not fit"),
        ("negative offsets", {"data_offsets": [-8, 0]}, "which do not fit"),
        ("offsets that are fractions", {"data_offsets": [0.0, 8.0]}, "which do not fit"),
        ("another shape than bytes", {"shape": [3]}, "which do not fit F32"),
        ("a negative dimension", {"shape": [-2, -1]}, "has shape"),
        ("a dimension that is a truth value", {"shape": [True, 2]}, "has shape"),
        ("a product that overflows 64 bits", {"shape": [2**33, 2**33]}, "has shape"),
        ("a hundred dimensions", {"shape": [1] * 100}, "has shape"),
        ("a dtype of no machine", {"dtype": "F31"}, "dtype 'F31'"),
        ("a dtype that is a list", {"dtype": ["F32"]}, "dtype"),
        ("another dtype than bytes", {"dtype": "F64"}, "which do not fit F64"),
        ("a key too many", {"code": "print()"}, "without exactly dtype, shape and data_offsets"),
    ):
        yield what, _file({"a": good | changes}, data), refusal
    for name in ("../../etc/passwd", "/etc/passwd", "a\\b", "a\0b", "", "x" * 600):
        yield f"a tensor called {name[:20]!r}", _file({name: good}, data), "a tensor is called"
    yield "not a number among the weights", _file({"a": good}, struct.pack("<2f", 1.0, float("nan"))), "NaN or infinity"
    yield "infinity among the weights", _file({"a": good}, struct.pack("<2f", float("inf"), 1.0)), "NaN or infinity"


def _file(header: dict[str, Any], data: bytes) -> bytes:
    return _raw(json.dumps(header).encode(), data)


def _raw(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data
