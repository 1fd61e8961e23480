"""The store: what goes in comes out, and damage is set aside."""

from __future__ import annotations

import numpy as np
import pytest

from audit.errors import PolicyError
from audit.store import Store, machine_secret

KEY = {"target": "sha256:a", "eps": 0.3}


def test_what_goes_in_comes_out(tmp_path):
    store = Store(tmp_path / "results", b"secret")
    assert store.get(KEY) is None
    store.put(KEY, {"after": np.arange(3)}, {"seconds": 1.5})
    arrays, description = store.get(KEY)
    assert arrays["after"].tolist() == [0, 1, 2]
    assert description == {"seconds": 1.5}
    assert store.get(KEY | {"eps": 0.2}) is None


@pytest.mark.parametrize("damage", [b"", b"not a zip", None], ids=["empty", "garbage", "truncated"])
def test_damaged_result_is_set_aside_and_named(tmp_path, damage):
    store = Store(tmp_path, b"secret")
    store.put(KEY, {"after": np.arange(300)}, {})
    (file,) = tmp_path.glob("*.result")
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    assert store.get(KEY) is None
    assert not file.exists()
    assert file.with_suffix(".aside").exists()
    assert store.notes == [
        f"1 stored results were damaged, or written elsewhere: set aside and measured again ({file.stem}.aside)"
    ]


def test_pickled_arrays_are_neither_written_nor_read(tmp_path):
    store = Store(tmp_path, b"secret")
    with pytest.raises(ValueError, match="allow_pickle"):
        store.put(KEY, {"after": np.array([object()])}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(40))
def test_no_bit_flip_ever_gets_out(tmp_path, seed):
    """Nor does what a flipped bit makes of the zip escape; zlib.error once did."""
    store = Store(tmp_path, b"secret")
    stored = np.random.default_rng(seed).integers(0, 9, 200)
    store.put(KEY, {"after": stored}, {"seconds": 1.5})
    (file,) = tmp_path.glob("*.result")
    content = bytearray(file.read_bytes())
    position = int(np.random.default_rng(seed + 1000).integers(len(content)))
    content[position] ^= 1 << seed % 8
    file.write_bytes(bytes(content))
    assert store.get(KEY) is None


def test_a_result_that_came_with_a_restored_cache_is_not_believed(tmp_path):
    Store(tmp_path, b"the adversary's").put(KEY, {"after": np.zeros(3)}, {})
    store = Store(tmp_path, b"this machine's")
    assert store.get(KEY) is None
    assert "written elsewhere" in store.notes[0]


def test_a_result_of_another_question_is_not_believed(tmp_path):
    """A good result of an easy question, renamed to the address of a hard one, has the wrong tag."""
    store = Store(tmp_path, b"secret")
    store.put(KEY | {"eps": 0.01}, {"after": np.zeros(3)}, {})
    (easy,) = tmp_path.glob("*.result")
    store.put(KEY, {"after": np.ones(3)}, {})
    (hard,) = set(tmp_path.glob("*.result")) - {easy}
    easy.replace(hard)
    assert store.get(KEY) is None


def test_the_secret_is_made_once_and_kept_to_oneself(tmp_path, monkeypatch):
    monkeypatch.delenv("MODEL_AUDIT_SECRET_FILE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    secret = machine_secret(tmp_path / "cache")
    (file,) = (tmp_path / "state").rglob("secret")
    assert len(secret) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert machine_secret(tmp_path / "cache") == secret


def test_without_a_place_for_the_secret_no_result_is_believed(tmp_path, monkeypatch):
    (tmp_path / "state").touch()  # no folder can be made there
    monkeypatch.setenv("MODEL_AUDIT_SECRET_FILE", str(tmp_path / "state/secret"))
    assert machine_secret(tmp_path / "cache") != machine_secret(tmp_path / "cache")


def test_a_secret_that_comes_with_the_cache_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_AUDIT_SECRET_FILE", str(tmp_path / "cache/secret"))
    with pytest.raises(PolicyError, match="expected a file outside the cache folder"):
        machine_secret(tmp_path / "cache")


@pytest.mark.parametrize(("content", "mode"), [(b"x" * 32, 0o644), (b"short", 0o600)], ids=["readable", "short"])
def test_a_secret_that_is_none_is_refused(tmp_path, monkeypatch, content, mode):
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    monkeypatch.setenv("MODEL_AUDIT_SECRET_FILE", str(file))
    with pytest.raises(PolicyError, match="expected at least 32 bytes that only their owner may read"):
        machine_secret(tmp_path / "cache")
