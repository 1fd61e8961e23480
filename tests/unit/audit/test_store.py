"""The store: what goes in comes out, and damage is set aside."""

from __future__ import annotations

import numpy as np
import pytest

from audit.store import Store

KEY = {"target": "sha256:a", "eps": 0.3}


def test_what_goes_in_comes_out(tmp_path):
    store = Store(tmp_path / "results")
    assert store.get(KEY) is None
    store.put(KEY, {"after": np.arange(3)}, {"seconds": 1.5})
    arrays, description = store.get(KEY)
    assert arrays["after"].tolist() == [0, 1, 2]
    assert description == {"seconds": 1.5}
    assert store.get(KEY | {"eps": 0.2}) is None


@pytest.mark.parametrize("damage", [b"", b"not a zip", None], ids=["empty", "garbage", "truncated"])
def test_damaged_result_is_set_aside_and_named(tmp_path, damage):
    store = Store(tmp_path)
    store.put(KEY, {"after": np.arange(300)}, {})
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    assert store.get(KEY) is None
    assert not file.exists()
    assert file.with_suffix(".damaged").exists()
    assert "damaged result set aside" in store.notes[0]


def test_pickled_arrays_are_neither_written_nor_read(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle"):
        store.put(KEY, {"after": np.array([object()])}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(40))
def test_no_bit_flip_ever_gets_out(tmp_path, seed):
    """Whatever a flipped bit makes of the zip, the result is the stored one or none; zlib.error once escaped."""
    store = Store(tmp_path)
    stored = np.random.default_rng(seed).integers(0, 9, 200)
    store.put(KEY, {"after": stored}, {"seconds": 1.5})
    (file,) = tmp_path.glob("*.npz")
    content = bytearray(file.read_bytes())
    position = int(np.random.default_rng(seed + 1000).integers(len(content)))
    content[position] ^= 1 << seed % 8
    file.write_bytes(bytes(content))
    found = store.get(KEY)
    assert found is None or ("after" in found[0] and (found[0]["after"] == stored).all())
