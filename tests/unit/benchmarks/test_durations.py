"""The table of durations: from a report's own timings, or from the junit.xml beside an older one."""

from __future__ import annotations

import json

import pytest

from benchmarks import durations

JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0"
tests="4" time="30.500" timestamp="2026-11-22"><testcase classname="tests.test_evasion" time="12.000"
name="test_floor[EVA-003]"><properties><property name="verdict" value="&lt;testcase time=&quot;9&quot;"/></properties>
</testcase><testcase classname="tests.test_static" name="test_clean[STAT-001]" time="4.000" /><testcase
name="test_curve_is_shown[curves-0]" time="2.000" /><testcase classname="tests" name="test_x[&lt;b&gt;]" time="1.250" />
</testsuite></testsuites>"""


def timing(name, seconds, kind="requirement", *, beside=False):
    return {"name": name, "kind": kind, "seconds": seconds, "beside": beside}


@pytest.fixture
def folders(tmp_path):
    """Make the folder of an old report, without timings, and that of a new one."""
    timings = [
        timing("STAT-001", 5.0, beside=True),
        timing("EVA-003", 6.0),
        timing("REG-001", 0.5),
        timing("A curve", 2.0, "exhibit"),
    ]
    for name, report in (("old", {}), ("new", {"timings": timings, "seconds": 10.0})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "old/junit.xml").write_text(JUNIT, encoding="utf-8")
    return tmp_path


def test_the_table_has_a_line_a_requirement_the_exhibits_the_sum_and_the_clock(folders, capsys):
    assert durations.main([str(folders / "old"), str(folders / "new" / "audit.json")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| | before, s | after, s | after / before |",
        "|---|---:|---:|---:|",
        "| STAT-001 | 4.0 | 5.0 \\* | 1.25 |",
        "| EVA-003 | 12.0 | 6.0 | 0.50 |",
        "| REG-001 | – | 0.5 | – |",
        "| exhibits (2 -> 1) | 3.2 | 2.0 | 0.62 |",
        "| sum | 19.2 | 13.5 | 0.70 |",
        "| whole run | 30.5 | 10.0 | 0.33 |",
        "",
        "\\* ran beside others: its seconds overlap with theirs.",
    ]


def test_nothing_beside_others_needs_no_footnote(folders):
    old = durations.read(folders / "old")
    assert "beside" not in durations.table(old, old)


def test_a_junit_file_without_test_cases_is_refused(folders):
    (folders / "old/junit.xml").write_text("<testsuites/>", encoding="utf-8")
    with pytest.raises(ValueError, match="expected test cases"):
        durations.read(folders / "old")


def test_a_report_that_is_not_there_is_a_line_and_no_traceback(folders, capsys):
    with pytest.raises(SystemExit, match="2"):
        durations.main([str(folders / "old"), str(folders / "none.json")])
    assert "No such file or directory" in capsys.readouterr().err
