"""Tampering: changed weights are not served, and a changed audit log does not verify.

It cannot see what happens to weights that were changed in memory, nor between two looks of a server at its files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit.errors import TargetError
from audit.requirements import TamperingRequirement
from audit.serving.bench import Bench, Server, Tried, together, until
from audit.serving.lines import edited
from audit.serving.log_tampering import try_log_files

NOTICED_WITHIN = 6.0  # seconds in which readiness must turn red
ASKED = 12  # questions that fill the log


def tampering(bench: Bench, requirement: TamperingRequirement) -> Tried:
    """Change the weights before and while they are served, then copies of the log.

    Raises:
        TargetError: the untouched weights were not served, or the untouched log does not verify.
    """
    tried = Tried()
    with bench.ordinary() as server:
        _try_served(bench, server, tried)
        log = bench.folder / "copied.jsonl"
        shutil.copyfile(server.log, log)
    parts = [Tried(), Tried()]
    figures = together((0, 1), 2, lambda one: try_log_files(bench, parts[0]) if one else _still(bench, log, parts[1]))
    for part in parts:
        tried.take(part)
        tried.n += part.n
    tried.settings = {"faults_injected": tried.n, "log_lines": len(log.read_bytes().splitlines()), **figures[1]}
    return tried


def _still(bench: Bench, log: Path, tried: Tried) -> dict[str, int]:
    """Try what needs no running server."""
    _refuses(bench, tried)
    _try_log(bench, log, tried)
    return {}


def _try_served(bench: Bench, server: Server, tried: Tried) -> None:
    """Change the weights under a running server, and put them back."""
    before = [_chosen(server, body) for body in bench.subject.bodies[:ASKED]]
    if None in before or (ready := server.get("/readyz")) is None or ready.status != 200:
        raise TargetError("the server of untouched weights is not ready, or does not answer")
    path = _weight_file(server.weights)
    untouched = path.read_bytes()
    try:
        _change(path, hide=True)
        _notices(tried, server)
        after = [_chosen(server, body) for body in bench.subject.bodies[:ASKED]]
    finally:
        path.write_bytes(untouched)
    tried.n += 2
    if after != before:
        tried.add("other answers", "/predict", "answers changed with the weight file, while the server ran")


def _chosen(server: Server, body: bytes) -> Any:
    answer = server.predict(body)
    return None if answer is None or answer.status != 200 else answer.json.get("class")


def _weight_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.suffix != ".json")


def _change(path: Path, *, hide: bool = False) -> None:
    """Flip one bit in the middle, where the numbers are; hidden, with the file's old size and time."""
    content, old = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    if hide:
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def _notices(tried: Tried, server: Server) -> None:
    """Wait for readiness to turn red."""
    answer = until(503, NOTICED_WITHIN, lambda: server.get("/readyz"))
    if answer is not None and answer.status == 503:
        return
    said = "silence" if answer is None else str(answer.status)
    tried.add("not noticed", "/readyz", f"still {said} after a byte of the weight file had changed while it was served")


def _refuses(bench: Bench, tried: Tried) -> None:
    """Start a server of changed weights, whose manifest names the new digest: only the pin can tell."""
    folder = bench.copy_of_weights("forged")
    path = _weight_file(folder)
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    _change(path)
    new, manifest = hashlib.sha256(path.read_bytes()).hexdigest(), path.with_suffix(".json")
    if manifest.is_file():
        manifest.write_text(manifest.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    tried.n += 1
    try:
        with bench.serving(weights=folder, log="forged.jsonl"):
            tried.add("served", "weights", "a changed byte, and a manifest that fits: the server started all the same")
    except TargetError:
        return


def _try_log(bench: Bench, log: Path, tried: Tried) -> None:
    """Verify the log as it is, then copies that somebody changed.

    Raises:
        TargetError: the untouched one does not verify.
    """
    lines = log.read_bytes().splitlines(keepends=True)
    whole = bench.verify_log(log)
    if whole.code != 0 or len(lines) < ASKED:
        raise TargetError(f"the untouched log of {len(lines)} lines: {bench.without_paths(whole.tail)}")
    changed = [(what, _copy(bench.folder, index, content)) for index, (what, content) in enumerate(_edits(lines))]
    for (what, _), done in zip(changed, together(changed, 2, lambda one: bench.verify_log(one[1])), strict=True):
        tried.n += 1
        if done.code != 1:
            tried.add("log verified", "audit log", f"{what}: {bench.without_paths(done.tail)} (exit {done.code})")


def _copy(folder: Path, index: int, content: list[bytes]) -> Path:
    place = folder / f"changed-{index}"
    place.mkdir()
    path = place / "audit.jsonl"
    path.write_bytes(b"".join(content))
    return path


def _edits(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield what was done to a log, and its lines afterwards."""
    middle = len(lines) // 2
    before, line, after = lines[:middle], lines[middle], lines[middle + 1 :]
    yield "another class in a line", [*before, edited(line, rehash=False), *after]
    yield "another class, and a hash that fits", [*before, edited(line, rehash=True), *after]
    yield "another time in the last line", [*lines[:-1], edited(lines[-1], rehash=False, key="time")]
    yield "a line removed", [*before, *after]
    yield "the first line removed", lines[1:]
    yield "two lines swapped", [*lines[: middle - 1], line, lines[middle - 1], *after]
    yield "a line twice", [*before, line, line, *after]
    yield "a line inserted", [*before, edited(line, rehash=True, key="request_id"), line, *after]
    yield "the last line torn", [*lines[:-1], lines[-1][: len(lines[-1]) // 2]]
    yield "a line that is no JSON", [*before, b"\n", line, *after]
