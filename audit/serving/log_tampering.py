"""A log of several files and its anchors, changed by somebody who can write to the disk: before, and while, it grows.

What is tried: edits in files that were rotated away, files that are missing or in another order, ends cut off and ends
written anew with hashes that fit, which only anchors tell. Each must be told by verifying; some are also what a server
is started on, or what a running one has to notice, whatever size and time say. It cannot tell what a change of both log
and anchors would do: the anchors belong where whoever changes the log cannot write.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audit.errors import TargetError
from audit.serving.bench import Bench, Server, Tried, together, until
from audit.serving.lines import anew, edited

NOTICED_WITHIN = 12.0  # seconds in which a changed log must turn readiness red
LOG_BYTES = 4096  # at which a log is put aside here: a few records
FIRST, MORE = 30, 3  # questions before the log is copied, and after
ANCHOR_SECONDS = 1
SETTLED = 2.5  # seconds after which an anchor must stand
NAME = "audit.jsonl"
Edit = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A copy of a log with its files, and what was done to it."""

    what: str
    path: Path


def try_log_files(bench: Bench, tried: Tried) -> dict[str, int]:
    """Fill a log of several files, and change copies of it; returns figures.

    Raises:
        TargetError: no server started, answered, or put its log aside; or the untouched log does not verify.
    """
    source = bench.folder / "logs" / "several"
    source.mkdir(parents=True)
    with _several(bench, "several", anchor_seconds=300) as server:
        _ask(bench, server, FIRST)
        _ask_once_more(bench, server)
        running = _copy(bench, source, "running")
        code = server.child.stop(20)
    if code != 0 or len(rotated(running / NAME)) < 2 or bench.verify_log(source / NAME).code != 0:
        said = bench.without_paths(bench.verify_log(source / NAME).tail)
        raise TargetError(f"the untouched log: {len(rotated(source / NAME))} files put aside, expected some; {said}")
    changed = [_changed(bench, source, what, edit) for what, edit in EDITS]
    changed.append(_changed(bench, running, "all but the first file removed, while the server ran", _first_only))
    _verified(bench, changed, tried)
    tries: list[Callable[[], None]] = [
        *(partial(_starts, bench, source, what, edit, tried) for what, edit in STARTED_ON),
        partial(_running, bench, source, "in-place", _newest, tried),
        partial(_running, bench, source, "in-rotated", _oldest, tried),
    ]
    together(tries, len(tries), _do)
    return {"log_files": len(rotated(source / NAME)) + 1, "log_changes_tried": len(changed) + len(tries)}


def _do(one: Callable[[], None]) -> None:
    one()


def rotated(log: Path) -> list[Path]:
    """Return the files that were put aside, the oldest first."""
    found = [one for one in log.parent.glob(f"{log.name}.*") if one.suffix[1:].isdecimal()]
    return sorted(found, key=lambda one: int(one.suffix[1:]))


def _several(bench: Bench, folder: str, anchor_seconds: int = ANCHOR_SECONDS) -> AbstractContextManager[Server]:
    settings = {"log_bytes": LOG_BYTES, "anchor_seconds": anchor_seconds}
    return bench.serving(settings, log=f"{folder}/{NAME}")


def _ask(bench: Bench, server: Server, times: int) -> None:
    bodies = bench.subject.bodies
    for turn in range(times):
        answer = server.predict(bodies[turn % len(bodies)])
        if answer is None or answer.status != 200:
            said = "silence" if answer is None else str(answer.status)
            raise TargetError(f"a server with a small log answered {said} to question {turn + 1}")


def _ask_once_more(bench: Bench, server: Server) -> None:
    """Wait until anchors of files that were put aside are noted, then ask a question that none of those covers."""
    for _ in range(MORE):
        time.sleep(SETTLED / 2)
        before = len(rotated(server.log))
        _ask(bench, server, 1)
        if len(rotated(server.log)) == before:
            return


def _copy(bench: Bench, source: Path, name: str) -> Path:
    """Copy the files of a log and its anchors; times, too, are as they were."""
    place = bench.folder / "logs" / name
    place.mkdir()
    for path in source.glob(f"{NAME}*"):
        shutil.copy2(path, place / path.name)
    return place


def _changed(bench: Bench, source: Path, what: str, edit: Edit) -> _Folder:
    place = _copy(bench, source, what.replace(" ", "-").replace(",", ""))
    edit(place / NAME)
    return _Folder(what, place)


def _verified(bench: Bench, changed: Iterable[_Folder], tried: Tried) -> None:
    folders = list(changed)
    for one, done in zip(folders, together(folders, 2, lambda one: bench.verify_log(one.path / NAME)), strict=True):
        tried.n += 1
        if done.code != 1:
            tried.add("log verified", "audit log", f"{one.what}: {bench.without_paths(done.tail)} (exit {done.code})")


def _starts(bench: Bench, source: Path, what: str, edit: Edit, tried: Tried) -> None:
    """Start a server on a changed log."""
    place = _changed(bench, source, f"started on {what}", edit).path
    tried.n += 1
    try:
        with _several(bench, place.name):
            tried.add("started on a changed log", "audit log", f"{what}: a server started, and goes on with it")
    except TargetError:
        return


def _running(bench: Bench, source: Path, name: str, which: Callable[[Path], Path], tried: Tried) -> None:
    """Let a server go on with a log, cut its new lines off a copy, then edit a byte of a file and put its time back."""
    place = _copy(bench, source, name)
    with _several(bench, name) as server:
        _ask(bench, server, MORE)
        _ask_once_more(bench, server)
        time.sleep(SETTLED)
        cut = _changed(bench, place, f"the lines of the last {SETTLED} s cut off, {name}", _cut_one)
        path, ready = which(place / NAME), server.get("/readyz")
        if ready is None or ready.status != 200:
            said = "nothing" if ready is None else ready.status
            raise TargetError(f"/readyz said {said} before the log was changed, expected 200")
        edit_in_place(path)
        _notices(bench, server, f"one byte of {path.name} edited in place, and its old time put back", tried)
    _verified(bench, [cut], tried)


def edit_in_place(path: Path) -> None:
    """Exchange one digit of a class, or else of anything, for another; size and time stay as they were."""
    old, content = path.stat(), path.read_bytes()
    at = content.find(b'"class"')
    at = next(place for place in range(max(at, 0), len(content)) if content[place : place + 1].isdigit())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"%d" % ((int(content[at : at + 1]) + 1) % 10))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def _notices(bench: Bench, server: Server, what: str, tried: Tried) -> None:
    """Wait for readiness to turn red; then nothing is predicted any more."""
    tried.n += 1
    ready = until(503, NOTICED_WITHIN, lambda: server.get("/readyz"))
    if ready is None or ready.status != 503:
        said = "nothing" if ready is None else ready.status
        message = f"{what}: /readyz still says {said} after {NOTICED_WITHIN:.0f} s"
        tried.add("log change not noticed", "/readyz", message)
        return
    answer = server.predict(bench.sample)
    if answer is not None and answer.status == 200:
        tried.add("predicted on a changed log", "/predict", f"{what}: readiness is red, and questions are answered")


def _newest(log: Path) -> Path:
    return log


def _oldest(log: Path) -> Path:
    return rotated(log)[0]


def _rewritten(path: Path, do: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(do(path.read_bytes().splitlines(keepends=True))))


def _edit_rotated(log: Path) -> None:
    _rewritten(rotated(log)[1], lambda lines: [edited(lines[0], rehash=True), *lines[1:]])


def _remove_rotated(log: Path) -> None:
    rotated(log)[1].unlink()


def _remove_first(log: Path) -> None:
    rotated(log)[0].unlink()


def _swap(log: Path) -> None:
    first, second = rotated(log)[:2]
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def _append_to_rotated(log: Path) -> None:
    _rewritten(rotated(log)[0], lambda lines: [*lines, lines[-1]])


def _cut(log: Path) -> None:
    """Cut off the last lines: the newest file as it was at its beginning, or gone with what was put aside last."""
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]))


def _cut_one(log: Path) -> None:
    _rewritten(log, lambda lines: lines[:-1])


def _anew(log: Path) -> None:
    _rewritten(log, lambda lines: anew([edited(lines[0], rehash=False), *lines[1:]]))


def _first_only(log: Path) -> None:
    first, *others = rotated(log)
    for one in others:
        one.unlink()
    first.replace(log)


EDITS: tuple[tuple[str, Edit], ...] = (
    ("another class in a rotated file, and a hash that fits", _edit_rotated),
    ("a rotated file removed", _remove_rotated),
    ("the first rotated file removed", _remove_first),
    ("two rotated files exchanged", _swap),
    ("a line appended to a rotated file", _append_to_rotated),
    ("the last lines cut off", _cut),
    ("the last line cut off", _cut_one),
    ("the end written anew, with hashes that fit", _anew),
)
STARTED_ON: tuple[tuple[str, Edit], ...] = (
    ("a line of a rotated file edited", _edit_rotated),
    ("a rotated file removed", _remove_rotated),
    ("the last lines cut off", _cut),
)
