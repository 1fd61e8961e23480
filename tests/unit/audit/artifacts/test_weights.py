"""Weight files: whatever is no state dict is refused, and nothing is unpickled on the way."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save

from audit.artifacts.corpus.pickles import Assembler, plain
from audit.artifacts.formats import LEGACY
from audit.artifacts.opcodes import ALLOWED_GLOBALS, refusals
from audit.artifacts.weights import file_sha256, load_weights
from audit.errors import IntegrityError

STATE = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(7)}


def stored(tmp_path, thing):
    path = tmp_path / "weights.pt"
    torch.save(thing, path)
    return path


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(STATE, id="dict"),
        pytest.param({"state_dict": STATE}, id="under the key state_dict"),
        pytest.param(torch.nn.Sequential(torch.nn.Linear(3, 2)).state_dict(), id="of a module"),
        pytest.param(
            {
                "half": torch.ones(3).half(),
                "flags": torch.tensor([True]),
                "parameter": torch.nn.Parameter(torch.ones(2)),
                "view": torch.arange(4.0)[1:],
                "turned": torch.arange(12.0).view(3, 4).T,
            },
            id="other types, parameters and views",
        ),
    ],
)
def test_a_torch_state_dict_is_loaded(tmp_path, thing):
    expected = thing.get("state_dict", thing)
    found = load_weights(stored(tmp_path, thing), None)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_safetensors_are_loaded(tmp_path):
    path = tmp_path / "weights.bin"  # by content, not by name
    path.write_bytes(save(STATE))
    assert torch.equal(load_weights(path, file_sha256(path))["weight"], STATE["weight"])


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        pytest.param(torch.nn.Linear(2, 2), r"refused, because it holds the name torch\.nn", id="whole network"),
        pytest.param({"optimiser": {1, 2}}, "refused, because it holds", id="a set"),
        pytest.param([torch.ones(2)], "expected a torch state dict of tensors", id="a list"),
        pytest.param({"epoch": 3, "w": torch.ones(2)}, "expected a torch state dict of tensors", id="numbers beside"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, thing, message):
    with pytest.raises(IntegrityError, match=message):
        load_weights(stored(tmp_path, thing), None)


def rewritten(tmp_path, change):
    """Return a state dict whose pickle was replaced."""
    source = stored(tmp_path, STATE)
    target = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for kept, content in change(name, old.read(name)):
                new.writestr(kept, content)
    path = tmp_path / "changed.pt"
    path.write_bytes(target.getvalue())
    return path


def test_a_payload_in_a_state_dict_does_not_run(tmp_path):
    marker = tmp_path / "marker"

    def plant(name, content):
        yield name, plain(str(marker)) if name.endswith("data.pkl") else content

    with pytest.raises(IntegrityError, match=r"the name builtins\.open at byte 0"):
        load_weights(rewritten(tmp_path, plant), None)
    assert not marker.exists()


def test_a_second_pickle_in_the_archive_is_refused(tmp_path):
    def add(name, content):
        yield name, content
        if name.endswith("data.pkl"):
            yield "other/constants.pkl", content

    with pytest.raises(IntegrityError, match=r"a member named .other/constants\.pkl."):
        load_weights(rewritten(tmp_path, add), None)


def test_what_two_readers_of_an_archive_see_differently_is_loaded_as_it_was_scanned(tmp_path):
    """Python finds the directory before the end record, torch where the record says; each finds another archive."""
    marker = tmp_path / "marker"

    def plant(name, content):
        yield name, plain(str(marker)) if name.endswith("data.pkl") else content

    bad, good = rewritten(tmp_path, plant).read_bytes(), stored(tmp_path, STATE).read_bytes()
    end = bad.rindex(b"PK\x05\x06")
    directory = int.from_bytes(bad[end + 16 : end + 20], "little")
    front = bad[:end]  # its members and its directory, for who believes the offset
    path = tmp_path / "two-faced.pt"
    with zipfile.ZipFile(io.BytesIO(good)) as members:
        shown = io.BytesIO()
        shown.write(front)
        with zipfile.ZipFile(shown, "a") as archive:
            for name in members.namelist():
                archive.writestr(name, members.read(name))
    content = bytearray(shown.getvalue())
    last = content.rindex(b"PK\x05\x06")
    content[last + 16 : last + 20] = directory.to_bytes(4, "little")
    path.write_bytes(bytes(content))
    assert pickle_for_torch(path) != pickle_for_torch(stored(tmp_path, STATE)), (
        "or torch sees no other archive than Python does"
    )
    with suppress(IntegrityError):
        assert torch.equal(load_weights(path, None)["weight"], STATE["weight"])
    assert not marker.exists()


def pickle_for_torch(path):
    return torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")


def legacy(tmp_path):
    path = tmp_path / "legacy.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    return path


def test_a_legacy_state_dict_is_loaded(tmp_path):
    found = load_weights(legacy(tmp_path), None)
    assert torch.equal(found["weight"], STATE["weight"])


def test_a_payload_in_a_legacy_state_dict_does_not_run(tmp_path):
    path, marker = legacy(tmp_path), tmp_path / "marker"
    content = path.read_bytes()
    place = content.index(b"ccollections")  # the state dict itself, the fourth pickle
    path.write_bytes(content[:place] + plain(str(marker)) + content[place:])
    with pytest.raises(IntegrityError, match=r"the name builtins\.open"):
        load_weights(path, None)
    assert not marker.exists()


WRITE = Assembler(2)
STORED = (("weight", (2, 3), (3, 1), range(6)), ("bias", (2,), (1,), (7, 8)))


def short(text):
    return b"U" + bytes([len(text)]) + text.encode()


def numbers(values):
    return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"


def of_2018(rebuild="_rebuild_tensor"):
    """Return a state dict as torch 0.3 wrote it under Python 2, byte by byte: short strings, and the old name."""
    pairs = []
    for name, shape, stride, values in STORED:
        kind, place = WRITE.name("torch", "FloatStorage"), short(name) + short("cpu")
        storage = b"(" + short("storage") + kind + place + b"K" + bytes([len(values)]) + b"NtQ"
        tensor = WRITE.call("torch._utils", rebuild, storage, b"K\x00", numbers(shape), numbers(stride))
        pairs += [short(name), tensor, b"s"]
    state = WRITE.program(WRITE.call("collections", "OrderedDict"), *pairs)
    keys = WRITE.program(b"](", *(short(name) for name, *_ in STORED), b"e")
    system = WRITE.program(b"}(", short("protocol_version"), b"M\xe9\x03", short("little_endian"), b"\x88u")
    raw = b"".join(struct.pack(f"<q{len(values)}f", len(values), *values) for *_, values in STORED)
    return LEGACY + WRITE.program(b"M\xe9\x03") + system + state + keys + raw


def test_a_state_dict_of_2018_is_loaded(tmp_path):
    """Written by hand: no torch of today writes one. Its name for a tensor was refused once."""
    path = tmp_path / "weights.pth"
    path.write_bytes(of_2018())
    found = load_weights(path, None)
    assert set(found) == {"weight", "bias"}
    assert torch.equal(found["weight"], torch.arange(6.0).view(2, 3))
    assert torch.equal(found["bias"], torch.tensor([7.0, 8.0]))


@pytest.mark.parametrize("name", sorted(name for name in vars(torch._utils) if name.startswith("_rebuild")))
def test_only_three_ways_to_rebuild_a_tensor_are_allowed(tmp_path, name):
    allowed = name in {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}
    found = list(refusals(WRITE.program(WRITE.name("torch._utils", name))))
    assert (found == []) is allowed
    if not allowed:
        path = tmp_path / "weights.pth"
        path.write_bytes(of_2018(name))
        with pytest.raises(IntegrityError, match=rf"the name torch\._utils\.{name} at byte"):
            load_weights(path, None)


def test_every_allowed_name_is_one_that_torchs_own_unpickler_allows():
    theirs = {name.rpartition(".")[::2] for name in torch._weights_only_unpickler._get_allowed_globals()}
    ours = {pair for pair in theirs if ALLOWED_GLOBALS.fullmatch(" ".join(pair))}
    assert {("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2")} < ours
    assert {name for module, name in ours if module != "torch"} == {
        "OrderedDict", "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter",
    }  # fmt: skip
    assert all(name in {"Size", "device"} or name.endswith("Storage") for module, name in ours if module == "torch")


def test_a_state_dict_of_2018_that_claims_more_than_it_holds_is_refused(tmp_path):
    path, content = tmp_path / "weights.pth", of_2018()
    size, stride = numbers((2, 3)) + numbers((3, 1)), b"(J" + struct.pack("<i", 10**9) + b"K\x03t" + numbers((0, 0))
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, stride))
    with pytest.raises(IntegrityError, match=r"tensors that claim 12,000,000,\d+ bytes"):
        load_weights(path, None)


def test_a_raw_pickle_is_refused(tmp_path):
    path = tmp_path / "raw.pt"
    path.write_bytes(plain(str(tmp_path / "marker")))
    with pytest.raises(IntegrityError, match=r"got a pickle, which is a program that runs .* save the weights again"):
        load_weights(path, None)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("length", [0, 3, 30, 300, 1000])
def test_a_truncated_archive_is_refused(tmp_path, length):
    path = stored(tmp_path, STATE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(IntegrityError):
        load_weights(path, None)


def test_another_digest_is_refused_before_anything_is_parsed(tmp_path):
    path = stored(tmp_path, STATE)
    with pytest.raises(IntegrityError, match=r"expected SHA-256 0+ .pinned in the policy, or of what was made here."):
        load_weights(path, "0" * 64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "opcode STACK_GLOBAL", id="stack global"),
        pytest.param(b"cos\nsystem\n.", r"the name os\.system", id="global"),
        pytest.param(b"(ios\nsystem\n.", "opcode INST", id="inst"),
        pytest.param(b"ctorch\nload\n.", r"the name torch\.load", id="another name of torch"),
        pytest.param(b"\x80\x02\x82\x01.", "opcode EXT1", id="extension registry"),
        pytest.param(b"garbage", "no readable pickle", id="garbage"),
    ],
)
def test_the_scan_denies_by_default(content, reason):
    found = list(refusals(content))
    assert any(re.search(reason, one) for one in found), found


def test_a_file_that_is_not_there_has_no_digest(tmp_path):
    assert file_sha256(tmp_path / "none") is None
