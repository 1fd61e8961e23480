"""Safetensors: limits and sanity of the header first, then the format's own parser, then finite numbers only.

The format: eight bytes with the length of the header (little-endian), a JSON object of name -> dtype, shape and byte
range, then the tensors' bytes without gaps (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from audit.errors import IntegrityError

MOST_HEADER_BYTES = 16 * 2**20
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 2**34  # of one tensor
MOST_LETTERS = 512  # of a name
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}
NAME = re.compile(r"\w[\w.\-+:]*")  # a parameter's path in its module: never a path in a file system


def parse(content: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a safetensors file.

    Args:
        content: the whole file.
        name: what errors call it.

    Raises:
        IntegrityError: the bytes are no safetensors, go beyond a limit, or hold a NaN or an infinity.
    """
    header = _header(content, name)
    for complaint in _complaints(header, len(content) - 8 - int.from_bytes(content[:8], "little")):
        raise IntegrityError(f"{name}: refused, because {complaint}")
    try:
        tensors: dict[str, Tensor] = parse_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"{name}: expected safetensors, got {error}") from error
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IntegrityError(f"{name}: refused, because tensor {key!r} holds NaN or infinity")
    return tensors


def looks_like(content: bytes) -> bool:
    """Tell whether the bytes begin with the length of a header, and with a header."""
    return len(content) >= 10 and content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8


def _header(content: bytes, name: str) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if not looks_like(content):
        raise IntegrityError(
            f"{name}: expected safetensors or a torch state dict, got neither in {len(content):,} bytes; save the "
            "weights again with safetensors.torch.save_file(network.state_dict(), ...)"
        )
    if length > MOST_HEADER_BYTES:
        raise IntegrityError(
            f"{name}: refused, because its header has {length:,} bytes (at most {MOST_HEADER_BYTES:,})"
        )
    try:
        header: dict[str, Any] = json.loads(content[8 : 8 + length], object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{name}: expected safetensors with a JSON header, got {error}") from error
    return header


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that occurs twice, which readers resolve differently")
    return found


def _complaints(header: dict[str, Any], size: int) -> Iterator[str]:
    """Yield what is wrong with a header over ``size`` bytes of tensors."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(one, str) for one in metadata.values()):
        yield "its metadata are not a mapping of texts"
    if len(header) > MOST_TENSORS:
        yield f"it holds {len(header):,} tensors (at most {MOST_TENSORS:,})"
    spans = []
    for key, entry in header.items():
        if len(key) > MOST_LETTERS or not NAME.fullmatch(key):
            yield f"a tensor is called {key[:80]!r}: expected letters, digits and dots, at most {MOST_LETTERS}"
        complaint = _complaint(entry)
        if complaint:
            yield f"tensor {key[:80]!r} has {complaint}"
            return
        spans.append(tuple(entry["data_offsets"]))
    end = 0
    for begin, behind in sorted(spans):
        if begin != end:
            yield f"its tensors overlap or leave a gap at byte {min(begin, end)} of the data"
        end = behind
    if end != size:
        yield f"its header describes {end:,} bytes of tensors, but {size:,} follow"


def _complaint(entry: Any) -> str | None:
    """Return what is wrong with one tensor's entry."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "an entry without exactly dtype, shape and data_offsets"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        return f"dtype {str(dtype)[:20]!r} (expected one of {', '.join(BYTES)})"
    if not _counts(shape) or len(shape) > MOST_DIMENSIONS or math.prod(shape) > MOST_ELEMENTS:
        return f"shape {str(shape)[:60]} (at most {MOST_DIMENSIONS} dimensions and {MOST_ELEMENTS:,} elements)"
    if not _counts(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * BYTES[dtype]:
        return f"data_offsets {str(offsets)[:60]}, which do not fit {dtype} of shape {shape}"
    return None


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)
