"""Safetensors: what the format's own writer makes is read back exactly; the corpus has what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from audit.artifacts import safetensors_file
from audit.artifacts.safetensors_file import BYTES, looks_like, parse
from audit.errors import IntegrityError

TYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_every_type_is_read_as_it_was_written(name):
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=TYPES[name])
    found = parse(save({"layer.weight": tensor, "layer.bias": tensor[0].clone()}), "w")
    assert torch.equal(found["layer.weight"], tensor)
    assert found["layer.weight"].dtype == tensor.dtype
    assert tensor.element_size() == BYTES[name]


def test_scalars_empty_tensors_and_metadata_are_no_harm():
    tensors = {"a": torch.tensor(3.0), "b": torch.zeros(0, 4), "c": torch.ones(2)}
    found = parse(save(tensors, metadata={"format": "pt"}), "w")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (), "b": (0, 4), "c": (2,)}


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    """A length of 0x280 puts the first two bytes of a protocol 2 pickle in front."""
    tensors = {f"layer{number}.weight": torch.zeros(2) for number in range(8)}
    content = save(tensors, metadata={"x": " " * (0x280 - 8 - int.from_bytes(save(tensors)[:8], "little") - 23)})
    for length in range(300):
        content = save(tensors, metadata={"x": " " * length})
        if content[:2] == b"\x80\x02":
            break
    assert content[:2] == b"\x80\x02"
    assert looks_like(content)
    assert len(parse(content, "w")) == 8


def test_more_tensors_than_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(safetensors_file, "MOST_TENSORS", 3)
    with pytest.raises(IntegrityError, match=r"it holds 4 tensors \(at most 3\)"):
        parse(save({name: torch.zeros(1) for name in "abcd"}), "w")


def test_names_of_modules_are_names():
    names = ("conv.weight", "_orig_mod.fc1.bias", "blocks.0.attn", "parametrizations.weight.original0", "ünï.weight")
    assert set(parse(save({name: torch.zeros(1) for name in names}), "w")) == set(names)
