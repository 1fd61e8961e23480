"""Plant each weakness in turn, and see whether the check that it is for finds it.

    python -m benchmarks.catches [--check CHECK ...] [--only WORDS] [--honest N] [--write]

Prints a line for each; ends with 1 where a weakness was missed, or the untouched server accused. ``--honest N`` runs
the checks on the untouched server, N times each. ``--write`` puts what was run into the table of
docs/what-it-catches.md, and leaves what was not run as it stands there.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from audit.errors import TargetError
from audit.serving.bench import Subject
from audit.serving.examine import CHECKS, examined
from benchmarks.catches.mutant import ROOT, Mutant, plant
from benchmarks.catches.mutants import MUTANTS
from benchmarks.catches.subject import digits, requirements

ALL = 10_000  # images, where a check asks about all that there are
MANUAL = ROOT / "docs" / "what-it-catches.md"
ROW = re.compile(r"^\| ([\w-]+) \| (.+?) \| (?:yes|no) \|.*", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- table -->\n).*(?=<!-- end of table -->)", re.DOTALL)


def tried(check: str, mutant: Mutant | None, subject: Subject) -> dict[str, int]:
    """Run one check on a server with a weakness, or on the untouched one; returns how often each rule was broken."""
    with tempfile.TemporaryDirectory() as name:
        planted = plant(mutant, Path(name).resolve())
        try:
            return examined(requirements()[check], replace(subject, root=planted)).counts
        except TargetError as error:
            return {f"inconclusive: {error}": 1}


def main() -> int:
    """Run what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catches", description=__doc__)
    parser.add_argument("--check", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--only", default="", help="mutants whose name has these words")
    parser.add_argument("--honest", type=int, default=0, metavar="N", help="the untouched server, N times each check")
    parser.add_argument("--write", action="store_true", help=f"put the table into {MANUAL.relative_to(ROOT)}")
    options = parser.parse_args()
    wrong, rows = 0, dict[tuple[str, str], str]()
    for check in options.check:
        subject = digits(ALL) if check == "agreement" else digits()
        for _ in range(options.honest):
            begun, found = time.monotonic(), tried(check, None, subject)
            wrong += bool(found)
            _say(f"{check}: untouched: {found or 'nothing found'} ({time.monotonic() - begun:.0f} s)")
        for mutant in MUTANTS if not options.honest else ():
            if mutant.check != check or options.only not in mutant.name:
                continue
            begun, found = time.monotonic(), tried(check, mutant, subject)
            caught = sorted(set(found) & set(mutant.rules))
            wrong += not caught and not mutant.missed
            rows[mutant.check, mutant.name] = _row(mutant, caught)
            if options.write:
                _write(rows)  # at once: all of them take an hour
            _say(f"{check}: {mutant.name}: {caught or f'MISSED, found {found}'} ({time.monotonic() - begun:.0f} s)")
    if rows:
        _say(_score(rows.values()))
    return 1 if wrong else 0


def _row(mutant: Mutant, caught: list[str]) -> str:
    verdict = "yes" if caught else "no"
    return f"| {mutant.check} | {mutant.name} | {verdict} | {', '.join(caught) or mutant.missed} |"


def _score(rows: Collection[str]) -> str:
    return f"{sum('| yes |' in row for row in rows)} of {len(rows)} weaknesses are found"


def _write(rows: dict[tuple[str, str], str]) -> None:
    """Put rows into the table, in the order of the weaknesses; a row of a weakness that is no more goes."""
    text = MANUAL.read_text(encoding="utf-8")
    shown = {(one[1], one[2]): one[0] for one in ROW.finditer(text)} | rows
    kept = [row for mutant in MUTANTS if (row := shown.get((mutant.check, mutant.name)))]
    head = "| check | weakness | found | rule, or why not |\n|---|---|---|---|\n"
    table = head + "\n".join(kept) + f"\n\n{_score(kept)}.\n"
    MANUAL.write_text(TABLE.sub(lambda _: table, text), encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
