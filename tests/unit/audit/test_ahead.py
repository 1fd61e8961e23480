"""Work begun ahead: it leaves what will be asked for, gives way, and its failures are told by whoever asks."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from audit import ahead
from audit.files import write_atomically
from audit.records import Family
from audit.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")


class Spans:
    """Pieces of work that note when they began and ended."""

    def __init__(self, folder):
        self._folder = folder

    def piece(self, name, seconds):
        def work():
            begun = time.monotonic()
            time.sleep(seconds)
            write_atomically(self._folder / name, f"{begun} {time.monotonic()}".encode())

        return work

    def of(self, prefix):
        """Return the spans of the pieces whose names begin so, in order."""
        found = [path.read_text().split() for path in self._folder.iterdir() if path.name.startswith(prefix)]
        return sorted((float(begun), float(ended)) for begun, ended in found)


def session(workers, *, retrain=False):
    """Return as much of a session as work ahead needs."""
    options = SimpleNamespace(retrain=retrain, device=SimpleNamespace(type="cpu"))
    return SimpleNamespace(laboratory=SimpleNamespace(workers=workers), options=options)


class Requirement:
    family, targets, turn = Family.EVASION, (), 0


@pytest.fixture
def workers():
    found = Workers(2)
    yield found
    found.close()


def start(workers, pieces, monkeypatch, *, retrain=False):
    monkeypatch.setitem(ahead.AHEAD, Family.EVASION, lambda requirement, _: iter(pieces))
    ahead.start([Requirement()], session(workers, retrain=retrain))


def test_what_is_asked_for_goes_before_what_is_begun_ahead(workers, tmp_path, monkeypatch):
    spans = Spans(tmp_path)
    start(workers, [spans.piece(f"ahead {one}", 0.1) for one in range(60)], monkeypatch)
    deadline = time.monotonic() + 30
    while not spans.of("ahead") and time.monotonic() < deadline:
        time.sleep(0.01)
    workers.side_by_side([spans.piece(f"asked {one}", 0.5) for one in range(6)])
    asked = spans.of("asked")
    workers.join()
    begun_ahead = spans.of("ahead")
    assert len(begun_ahead) == 60  # all of it was done in the end
    assert sum(begun < asked[0][0] for begun, _ in begun_ahead) >= 1  # it had begun
    # one may have begun just before; then there are pieces for both cores until the last of them begins
    assert sum(asked[0][0] <= begun < asked[-1][0] for begun, _ in begun_ahead) <= 2
    assert max(sum(begun <= at < ended for begun, ended in asked) for at, _ in asked) == 2


def test_what_fails_ahead_costs_the_rest_nothing(workers, tmp_path, monkeypatch):
    start(workers, [lambda: 1 / 0, (tmp_path / "made").touch], monkeypatch)
    workers.join()
    assert (tmp_path / "made").exists()


def test_each_piece_is_done_once_by_several_processes(tmp_path, monkeypatch):
    workers = Workers(4)

    def piece(one):
        with (tmp_path / str(one)).open("a") as file:
            file.write("done\n")

    start(workers, [lambda one=one: piece(one) for one in range(40)], monkeypatch)
    workers.join()
    workers.close()
    assert [(tmp_path / str(one)).read_text() for one in range(40)] == ["done\n"] * 40


def test_nothing_is_begun_ahead_where_the_caches_are_not_believed(workers, tmp_path, monkeypatch):
    start(workers, [(tmp_path / "made").touch], monkeypatch, retrain=True)
    workers.join()
    assert not (tmp_path / "made").exists()


def test_one_process_begins_nothing_ahead(tmp_path, monkeypatch):
    start(Workers(1), [(tmp_path / "made").touch], monkeypatch)
    assert not (tmp_path / "made").exists()
