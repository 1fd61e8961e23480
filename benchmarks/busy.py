"""An audit on idle cores and beside busy ones, in turn: how much longer it takes, as a ratio of runs of one command.

    python -m benchmarks.busy --loops 2 --rounds 1 -- --policy policies/digits.yaml --offline

Each run starts cold, with a cache of its own, and its figures must not depend on what else the machine does. Beside the
second run of each round so many processes of one thread compute without a pause.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from audit.process import run, running

LONGEST_SECONDS = 7200.0
LOOP = "while True: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both kinds of run in turn, print seconds and ratio; returns 1 where their figures differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("--loops", type=int, default=2, help="processes that compute beside the audit (default: 2)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each kind (default: 1)")
    parser.add_argument("options", nargs="*", help="of python -m audit run, after --")
    options = parser.parse_args(arguments)
    idle, busy, figures = list[float](), list[float](), list[str]()
    for _ in range(options.rounds):
        for loops, seconds in ((0, idle), (options.loops, busy)):
            with beside(loops):
                taken, measured = cold(options.options)
            seconds.append(taken)
            figures.append(measured)
            sys.stdout.write(f"{loops} loops beside: {taken:.0f} s\n")
    ratio = statistics.median(busy) / statistics.median(idle)
    same = len(set(figures)) == 1
    sys.stdout.write(f"busy / idle: {ratio:.2f}; figures {'the same' if same else 'DIFFER'} in {len(figures)} runs\n")
    return 0 if same else 1


@contextmanager
def beside(loops: int) -> Iterator[None]:
    """Let so many processes of one thread compute while the span lasts."""
    with ExitStack() as stack:
        for _ in range(loops):
            stack.enter_context(running([sys.executable, "-c", LOOP], cwd=Path.cwd()))
        yield


def cold(options: Sequence[str]) -> tuple[float, str]:
    """Audit with an empty cache; returns the seconds, and status, value, interval and n of what hangs on no clock."""
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "MODEL_AUDIT_CACHE": f"{name}/cache"}
        words = ["-m", "audit", "run", "--report-dir", f"{name}/reports", *options]
        begun = time.monotonic()
        done = run([sys.executable, *words], cwd=Path.cwd(), seconds=LONGEST_SECONDS, environment=environment)
        taken = time.monotonic() - begun
        latest = Path(name) / "reports/latest/audit.json"
        if not latest.is_file():
            raise SystemExit(f"the audit wrote no report (exit {done.code}): {done.tail}")
        report = json.loads(latest.read_text(encoding="utf-8"))
    keys = ("value", "low", "high", "n")
    figures = {
        one["requirement_id"]: (
            one["status"],
            [one["measurement"][key] for key in keys] if one["measurement"] else None,
        )
        for one in report["verdicts"]
        if not one["requirement_id"].startswith("SERV")  # how many requests were answered is a matter of time
    }
    return taken, json.dumps(figures, sort_keys=True)


if __name__ == "__main__":
    sys.exit(main())
