"""Where the time of an audit went, before and after: a Markdown table from two reports.

    python -m benchmarks.durations OLD NEW    # two audit.json, or report folders that hold one

A line marked * ran beside others, so its seconds overlap with theirs, and the sum is more than the clock shows. A
report without ``timings`` is of an older release: its durations are those of the ``junit.xml`` beside it.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTRIBUTE = re.compile(r'\b(name|time)="([^"]*)"')
REQUIREMENT = re.compile(r"\[([A-Z]{3,5}-\d{3})\]$")
RUN = "whole run"


@dataclass(frozen=True, slots=True)
class Duration:
    """How long one requirement took, or all exhibits, or the run."""

    seconds: float
    beside: bool = False
    count: int = 1


Durations = dict[str, Duration]


def read(path: Path) -> Durations:
    """Return what took how long: requirements, ``exhibits`` in one line, the whole run by the clock.

    Raises:
        OSError: there is no report, or an old one has no junit.xml beside it.
        ValueError: it is not one.
    """
    file = path / "audit.json" if path.is_dir() else path
    report: dict[str, Any] = json.loads(file.read_bytes())
    if "timings" not in report:
        return _from_junit(file.with_name("junit.xml").read_text(encoding="utf-8"))
    found: Durations = {}
    for one in report["timings"]:
        name = one["name"] if one["kind"] == "requirement" else "exhibits"
        _add(found, name, one["seconds"], beside=one["beside"])
    if report.get("seconds") is not None:
        found[RUN] = Duration(report["seconds"])
    return found


def table(old: Durations, new: Durations) -> str:
    """Return the table: requirements in the order of the new report, exhibits, the sum, and the whole run."""
    last = ("exhibits", RUN)
    names = [name for name in {**new, **old} if name not in last]
    lines = ["| | before, s | after, s | after / before |", "|---|---:|---:|---:|"]
    lines += [_line(name, old.get(name), new.get(name)) for name in (*names, "exhibits")]
    sums = [sum(one.seconds for name, one in each.items() if name != RUN) for each in (old, new)]
    lines.append(_line("sum", *map(Duration, sums)))
    lines.append(_line(RUN, old.get(RUN), new.get(RUN)))
    if any(one.beside for one in (*old.values(), *new.values())):
        lines += ["", "\\* ran beside others: its seconds overlap with theirs."]
    return "\n".join(lines) + "\n"


def _from_junit(text: str) -> Durations:
    """Read the durations of our own junit.xml, in which no quoted attribute holds a raw quote or angle bracket."""
    found: Durations = {}
    for tag in re.findall(r"<testcase\b[^>]*>", text):
        attributes = dict(ATTRIBUTE.findall(tag))
        requirement = REQUIREMENT.search(html.unescape(attributes["name"]))
        _add(found, requirement.group(1) if requirement else "exhibits", float(attributes["time"]), beside=False)
    for tag in re.findall(r"<testsuite\b[^>]*>", text):
        found[RUN] = Duration(float(dict(ATTRIBUTE.findall(tag))["time"]))
    if not found:
        raise ValueError("junit.xml: expected test cases (got none)")
    return found


def _add(found: Durations, name: str, seconds: float, *, beside: bool) -> None:
    known = found.get(name, Duration(0.0, count=0))
    found[name] = Duration(known.seconds + seconds, known.beside or beside, known.count + 1)


def _line(name: str, old: Duration | None, new: Duration | None) -> str:
    counts = dict.fromkeys(str(one.count) for one in (old, new) if one)
    label = f"{name} ({' -> '.join(counts) or 0})" if name == "exhibits" else name
    ratio = f"{new.seconds / old.seconds:.2f}" if old and new and old.seconds else "–"
    return f"| {label} | {_cell(old)} | {_cell(new)} | {ratio} |"


def _cell(one: Duration | None) -> str:
    return "–" if one is None else f"{one.seconds:.1f}" + (" \\*" if one.beside else "")


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.durations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("old", "new"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="an audit.json, or its folder")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(table(read(options.old), read(options.new)))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
