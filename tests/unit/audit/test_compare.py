"""What changed between two audits, and which of it counts."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import cli, compare
from audit.compare.changes import differences, same
from audit.compare.ways import Way, way
from audit.errors import AuditError
from audit.records import (
    Evidence,
    Exhibit,
    Finding,
    Gate,
    Measurement,
    Metric,
    Report,
    Severity,
    Status,
    Verdict,
    Waiver,
)
from audit.report import as_json

BOUND = {"metric": "robust_accuracy", "at_least": 0.8, "at_most": None, "confidence": 0.95}
SHARE = Measurement(metric=Metric.ROBUST_ACCURACY, value=0.9, low=0.85, high=0.94, n=200)
COUNT = Measurement(metric=Metric.FINDINGS, value=1, low=1, high=1, n=60)


def definition(name="EVA-001", **changed):
    return {
        "id": name, "title": f"Title of {name}", "references": ["CWE-1039"], "if_not_run": "block",
        "threat_model": {"goal": "any", "eps": 0.3}, "bound": BOUND, **changed,
    }  # fmt: skip


def verdict(name="EVA-001", status=Status.MET, reason="for a reason", measurement=SHARE, findings=()):
    evidence = Evidence(measurement=measurement, findings=findings)
    return Verdict(requirement_id=name, status=status, reason=reason, measurement=measurement, evidence=evidence)


def report(verdicts=None, requirements=None, header=(), **changed):
    """Return a small report as plain data; ``changed`` replaces top-level keys."""
    verdicts = [verdict()] if verdicts is None else verdicts
    stated = [definition(one.requirement_id) for one in verdicts] if requirements is None else requirements
    record = Report(
        gate=Gate(open=True, exit_code=0, sentence="The gate is OPEN."),
        policy={
            "path": "policies/digits.yaml", "sha256": "aa", "chosen": "said so", "profile": "quick",
            "dataset": "digits", "data_digest": "sha256:dd", "requirements": stated, "left_out": [], **dict(header),
        },
        target={"name": "hardened", "recipe": "hardened", "digest": "sha256:11", "weights_sha256": "11"},
        partial=False,
        verdicts=verdicts,
        exhibits=(),
        waivers=(),
        notes=(),
        stride_matrix=None,
        provenance={
            "commit": "c" * 40, "started": "2026-11-22T04:41:30+00:00", "finished": "later", "command": "run",
            "python": "3.11.9", "device": "cpu", "packages": {"torch": "2.15.0"},
        },
    ).model_copy(update=changed)  # fmt: skip
    return json.loads(as_json.render(record))


@pytest.fixture
def compared(tmp_path, capsys):
    """Give a function that compares two reports at the command line; returns the exit code and what was printed."""

    def run(old, new):
        for name, data in (("old", old), ("new", new)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "audit.json").write_text(json.dumps(data), encoding="utf-8")
        code = cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new" / "audit.json")])
        return code, capsys.readouterr().out

    return run


def test_of_the_same_audit_nothing_changed(compared):
    code, out = compared(report(), report())
    assert code == 0
    assert out.splitlines()[-2:] == ["", "Nothing changed."]
    assert "old: hardened, policies/digits.yaml, quick, 2026-11-22T04:41:30+00:00, cccccccccc" in out
    assert len(out.splitlines()) == 4


def test_what_differs_in_every_run_is_ignored(compared):
    new = report()
    new["provenance"] |= {"started": "now", "finished": "now", "command": "another"}
    new["verdicts"][0]["measurement"] |= {"seconds": 3.0, "measured_at": "now", "from_store": True}
    assert compared(report(), new)[1].endswith("\nNothing changed.\n")


NOT_MET = verdict(status=Status.NOT_MET, reason="it fell")
UNSURE = verdict(status=Status.INCONCLUSIVE, reason="the control passed")
CLOSED = Gate(open=False, exit_code=1, sentence="The gate is CLOSED: not met.")


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        (report(), report([NOT_MET]), 1, "! EVA-001  MET -> NOT_MET: it fell"),
        (report(), report([verdict(reason="other words")]), 0, "Nothing changed."),
        (
            report([verdict(status=Status.INCONCLUSIVE)]), report([UNSURE]), 0,
            "  EVA-001  still INCONCLUSIVE, for another reason: the control passed",
        ),
        (report(), report(gate=CLOSED), 1, "! gate  open (exit 0) -> closed (exit 1): The gate is CLOSED: not met."),
        (report(), report(partial=True), 0, "  scope  whole -> partial audit"),
        (report([]), report(), 1, "! EVA-001  not in the old audit; is MET: for a reason"),
        (report(), report([]), 1, "! EVA-001  not in the new audit; was MET"),
        (report(), report([], header={"left_out": ["EVA-001"]}), 1, "not in the new audit (left out by --only); was"),
        (report([], header={"left_out": ["EVA-001"]}), report(), 1, "not in the old audit (left out by --only); is"),
    ],
    ids=["status", "reason", "doubt", "gate", "partial", "added", "removed", "left out", "taken in"],
)  # fmt: skip
def test_verdicts(compared, old, new, code, line):
    assert compared(old, new)[0] == code
    assert line in compared(old, new)[1]


def measured(old, new):
    return report([verdict(measurement=old)]), report([verdict(measurement=new)])


def share(value, low, high, n=200, **rest):
    return Measurement(metric=Metric.ROBUST_ACCURACY, value=value, low=low, high=high, n=n, **rest)


def count(value):
    return Measurement(metric=Metric.FINDINGS, value=value, low=value, high=value, n=60)


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        (SHARE, share(0.86, 0.8, 0.91), 0, "EVA-001  robust_accuracy, within their intervals"),
        (SHARE, share(0.84, 0.8, 0.88), 1, "! EVA-001  robust_accuracy, beyond their intervals"),
        (SHARE, share(0.86, 0.84, 0.88), 1, "! EVA-001  robust_accuracy, beyond their intervals"),
        (SHARE, share(0.9, 0.88, 0.92, n=900), 0, "EVA-001  the same value, another interval"),
        (SHARE, share(0.9, 0.85, 0.94, n=201), 0, "EVA-001  the same figure"),
        (SHARE, share(0.9, 0.85, 0.94, interval="anytime"), 0, "interval exact -> anytime"),
        (SHARE, share(0.9, 0.85, 0.94, seed=7), 0, "seed nothing -> 7"),
        (SHARE, share(0.9 + 1e-14, 0.85, 0.94), 0, "Nothing changed."),
        (count(1), count(2), 1, "! EVA-001  findings, an exact figure that differs"),
        (count(0.1), count(0.1 + 1e-14), 0, "Nothing changed."),
        (SHARE, count(1), 1, "! EVA-001  another metric: robust_accuracy -> findings"),
        (SHARE, None, 1, "! EVA-001  robust_accuracy, measured in the old audit only"),
        (None, SHARE, 1, "! EVA-001  robust_accuracy, measured in the new audit only"),
        (None, None, 0, "Nothing changed."),
    ],
    ids=[
        "within", "beyond both", "old value outside the new interval only", "interval", "n", "method", "seed", "noise",
        "exact", "exact and noise", "metric", "lost", "gained", "none",
    ],
)  # fmt: skip
def test_figures(compared, old, new, code, line):
    got, out = compared(*measured(old, new))
    assert got == code
    assert line in out


def test_a_figure_is_shown_old_above_new_with_interval_n_and_another_bound(compared):
    new = report([verdict(measurement=share(0.7, 0.6, 0.8, n=300))])
    new["policy"]["requirements"][0]["bound"] = {**BOUND, "at_least": None, "at_most": 0.5}
    out = compared(report(), new)[1]
    assert re.search(
        r"^  ! EVA-001  robust_accuracy, beyond their intervals\n"
        r" {13}old  0\.9000 \[0\.8500, 0\.9400\]  n=200\n"
        r" {13}new  0\.7000 \[0\.6000, 0\.8000\]  n=300\n"
        r" {13}bound >= 0\.8 -> <= 0\.5$",
        out,
        flags=re.MULTILINE,
    )


def test_figures_have_as_many_digits_as_tell_them_apart(compared):
    out = compared(*measured(share(0.9, 0.8, 1.0), share(0.90000001, 0.8, 1.0)))[1]
    assert "old  0.900000000 [" in out
    assert "new  0.900000010 [" in out


def finding(rule, message="look here", line=1):
    return Finding(tool="bandit", rule=rule, severity=Severity.LOW, path="a.py", line=line, message=message)


def test_a_finding_that_came_or_went_counts_although_their_number_is_the_same(compared):
    old, new = (report([verdict(measurement=COUNT, findings=[finding(rule)])]) for rule in ("B101", "B602"))
    code, out = compared(old, new)
    assert code == 1
    assert "! EVA-001  new finding: bandit: B602: a.py: look here" in out
    assert "! EVA-001  gone finding: bandit: B101: a.py: look here" in out


def test_a_finding_that_moved_or_is_worded_otherwise_is_the_same_and_one_more_of_a_kind_is_new(compared):
    old = report([verdict(findings=[finding("B101")])])
    assert compared(old, report([verdict(findings=[finding("B101", "in other words", line=9)])]))[0] == 0
    code, out = compared(old, report([verdict(findings=[finding("B101")] * 3)]))
    assert code == 1
    assert "new finding (2 times): bandit: B101: a.py" in out


def test_suppressions_are_counted_by_kind_and_do_not_count(compared):
    def with_suppressions(*lines):
        data = report()
        data["verdicts"][0]["evidence"]["suppressions"] = [
            {"tool": "bandit", "what": "B101", "path": "a.py", "line": line, "reason": "by design", "kind": "comment"}
            for line in lines
        ]
        return data

    assert compared(with_suppressions(1, 2), with_suppressions(3, 4))[1].endswith("Nothing changed.\n")
    code, out = compared(with_suppressions(1), with_suppressions(1, 2))
    assert code == 0
    assert "    EVA-001  suppressions 1 -> 2: bandit: B101: by design" in out


def defined(**changed):
    return report(requirements=[definition(**changed)])


@pytest.mark.parametrize(
    ("new", "code", "line"),
    [
        (defined(bound={**BOUND, "at_least": 0.7}), 1, "! EVA-001  bound.at_least: 0.8 -> 0.7 (LOOSENED)"),
        (defined(bound={**BOUND, "at_least": 0.9}), 1, "! EVA-001  bound.at_least: 0.8 -> 0.9 (TIGHTENED)"),
        (defined(if_not_run="report"), 1, "! EVA-001  if_not_run: block -> report (LOOSENED)"),
        (defined(title="In other words"), 1, "! EVA-001  title: Title of EVA-001 -> In other words"),
        (defined(references=["CWE-1039", "CWE-20"]), 1, '! EVA-001  references: ["CWE-1039"] -> ["CWE-1039", "CWE'),
        (defined(seed=7), 1, "! EVA-001  seed: nothing -> 7"),
        (defined(seed=None, accept=[], control={"also": {}}), 0, "Nothing changed."),
        (report(header={"sha256": "bb"}), 0, "  sha256  aa -> bb"),
        (report(header={"path": "p.yaml"}), 0, "  path  policies/digits.yaml -> p.yaml"),
        (report(header={"profile": "full"}), 0, "  profile  quick -> full"),
        (report(header={"data_digest": "sha256:ee"}), 1, "! data_digest  sha256:dd -> sha256:ee"),
        (report(header={"chosen": "by chance"}), 0, "Nothing changed."),
        (report(requirements=[definition(), definition("EVA-002")]), 1, "! EVA-002  requirement added: Title of EVA"),
        (report(requirements=[]), 1, "! EVA-001  requirement removed: Title of EVA-001"),
        (report(requirements=[], header={"left_out": ["EVA-001"]}), 0, "Nothing changed."),
    ],
    ids=[
        "loosened", "tightened", "if_not_run", "words", "list", "new key", "empty new keys", "comment", "path",
        "profile", "data", "chosen", "added", "removed", "left out",
    ],
)  # fmt: skip
def test_policies(compared, new, code, line):
    got, out = compared(report(), new)
    assert got == code
    assert line in out


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        pytest.param("bound.at_most", 0.1, 0.2, Way.LOOSENED, id="more allowed"),
        pytest.param("bound.at_most", 0.2, 0.1, Way.TIGHTENED, id="less allowed"),
        pytest.param("bound.confidence", 0.95, 0.9, Way.LOOSENED, id="confidence"),
        pytest.param("bound.at_least", 0.9, None, Way.LOOSENED, id="no floor any more"),
        pytest.param("bound.at_least", None, 0.9, Way.TIGHTENED, id="a floor"),
        pytest.param("threat_model.eps", 0.3, 0.1, Way.LOOSENED, id="eps"),
        pytest.param("threat_model.norm", "linf", "l2", Way.LOOSENED, id="a smaller ball"),
        pytest.param("threat_model.knowledge", "white-box", "transfer", Way.LOOSENED, id="knows less"),
        pytest.param("threat_model.knowledge", "black-box label", "white-box", Way.TIGHTENED, id="knows more"),
        pytest.param("if_not_run", "report", "block", Way.TIGHTENED, id="blocks"),
        pytest.param("if_not_run", None, "block", Way.CHANGED, id="older report"),
        pytest.param("samples.quick", "all", 2000, Way.LOOSENED, id="not all"),
        pytest.param("samples.full", 30, "all", Way.TIGHTENED, id="all"),
        pytest.param("attack.steps", 40, 4, Way.LOOSENED, id="weaker steps"),
        pytest.param("attack.step_size", 0.01, 1e-6, Way.LOOSENED, id="another step size"),
        pytest.param("attack.random_start", True, False, Way.LOOSENED, id="another start"),
        pytest.param("crafted_on", None, "baseline", Way.LOOSENED, id="another surrogate"),
        pytest.param("stale_days", 30, 700, Way.LOOSENED, id="older reviews"),
        pytest.param("at_least.torch", "2.10", "2.6", Way.LOOSENED, id="lower version"),
        pytest.param("at_least.torch", "2.6", "2.10", Way.TIGHTENED, id="higher version"),
        pytest.param("at_least.torch", "2.6", None, Way.LOOSENED, id="any version"),
        pytest.param("why", "so", "thus", Way.CHANGED, id="words"),
        pytest.param("seed", 1, 2, Way.CHANGED, id="no direction"),
        pytest.param("perturbation_above", 0.01, 0.05, Way.LOOSENED, id="more is taken off"),
        pytest.param("perturbation_above", 0.05, 0.01, Way.LOOSENED, id="less is judged"),
        pytest.param("placebos", 10, 100, Way.LOOSENED, id="a higher yardstick"),
        pytest.param("reference_networks.count", 3, 30, Way.LOOSENED, id="a higher yardstick of references"),
        pytest.param("not.known.here", 1, 2, Way.LOOSENED, id="what is not known counts"),
    ],
)
def test_which_way_a_requirement_went(path, old, new, expected):
    assert way(path, old, new) is expected


def waived(*, reason="accepted for now", name="EVA-001"):
    return report(waivers=(Waiver(id=name, reason=reason, owner="me", expires="2026-12-31"),))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (report(), waived(), "! EVA-001  waiver added: accepted for now (me, until 2026-12-31)"),
        (waived(), report(), "! EVA-001  waiver removed: accepted for now (me, until 2026-12-31)"),
        (waived(), waived(reason="for another reason"), "! EVA-001  waiver, reason: accepted for now -> for another"),
    ],
    ids=["added", "removed", "changed"],
)
def test_waivers_count(compared, old, new, line):
    code, out = compared(old, new)
    assert code == 1
    assert line in out


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("name", "mine", "! name  hardened -> mine"),
        ("weights_sha256", "22", "! weights_sha256  11 -> 22"),
        ("weights_sha256", None, "! weights_sha256  11 -> nothing"),
        ("defence", {"name": "jpeg"}, "! defence.name  nothing -> jpeg"),
    ],
    ids=["name", "weights", "not loaded", "defence"],
)
def test_another_model_counts(compared, key, value, line):
    new = report()
    new["target"][key] = value
    code, out = compared(report(), new)
    assert code == 1
    assert line in out


def test_the_environment_is_shown_and_does_not_count(compared):
    new = report(schema_version="1.7")
    new["provenance"]["packages"] = {"torch": "2.16.0", "extra": "1"}
    code, out = compared(report(), new)
    assert code == 0
    for line in ("schema_version  1.2 -> 1.7", "packages.torch  2.15.0 -> 2.16.0", "packages.extra  nothing -> 1"):
        assert re.search(re.sub(r" {2,}", " +", re.escape(line).replace("\\ ", " ")), out)
    assert out.endswith("Changes that count: none. Others: environment 3.\n")


def shown(title, **data):
    return Exhibit(kind="scenario", title=title, data=data)


def test_an_exhibit_is_shown_with_its_first_difference_and_does_not_count(compared):
    old = report(exhibits=(shown("one", accuracy=0.5, loss=1.0, attack_seconds=1.0), shown("two")))
    new = report(exhibits=(shown("one", accuracy=0.4, loss=1.1, attack_seconds=2.0), shown("three")))
    code, out = compared(old, new)
    assert code == 0
    assert "scenario  one: accuracy: 0.5 -> 0.4, and 1 more" in out
    assert "scenario  two: in the old audit only" in out
    assert "scenario  three: in the new audit only" in out


def test_lines_are_in_the_order_of_the_new_policy_and_after_it_what_is_gone(compared):
    old = report([verdict(name) for name in ("AAA-001", "AAA-002", "AAA-003")])
    new = report([verdict(name, status=Status.NOT_MET) for name in ("AAA-003", "AAA-004", "AAA-001")])
    out = compared(old, new)[1]
    assert re.findall(r"^  ! (AAA-\d{3}) ", out.partition("policy")[0], flags=re.MULTILINE) == [
        "AAA-003",
        "AAA-004",
        "AAA-001",
        "AAA-002",
    ]


def test_the_summary_counts_what_counts_apart(compared):
    new = report([verdict(status=Status.NOT_MET, measurement=share(0.86, 0.8, 0.91))])
    out = compared(report(), new)[1]
    assert out.endswith("\nChanges that count: verdicts 1. Others: figures 1.\n")


def test_reports_with_unknown_keys_or_without_newer_ones_are_read(compared):
    old, new = report(), report()
    for key in ("partial", "exhibits", "waivers", "notes", "stride_matrix", "provenance"):
        del old[key]
    for part in (
        new,
        new["gate"],
        new["verdicts"][0],
        new["verdicts"][0]["measurement"],
        new["verdicts"][0]["evidence"],
    ):
        part["of_a_later_version"] = [1]
    assert compared(old, new)[0] == 0


def test_no_control_character_of_a_report_reaches_the_terminal(compared):
    new = report([NOT_MET])
    new["verdicts"][0]["reason"] = "a\x1b[2Jb\nc\ud800"
    out = compared(report(), new)[1]
    assert "MET -> NOT_MET: a [2Jb c \n" in out


def test_long_values_are_cut_unless_that_hides_how_they_differ(compared):
    out = compared(defined(why="a" * 300), defined(why="b" * 300))[1]
    assert "a" * 87 + "... -> " + "b" * 87 + "...\n" in out
    out = compared(defined(why="a" * 300), defined(why="a" * 299 + "b"))[1]
    assert "a" * 299 + "b\n" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"new\.json: expected an audit\.json, or a report folder that holds one, got No such file",
        ),
        ("{", r"new\.json: expected JSON, got: Expecting property name"),
        ("\xff", r"new\.json: expected JSON, got: "),
        ('{"schema_version": NaN}', r"new\.json: expected JSON, got: NaN, which no report has"),
        ("[" * 100_000, r"new\.json: expected JSON, got: "),
        ("[]", r"new\.json: expected an audit report, with its schema_version \(got none\)"),
        ('{"schema_version": 1}', r"new\.json: expected an audit report, with its schema_version \(got none\)"),
        (
            '{"schema_version": "2.0"}',
            r"new\.json: schema_version: expected 1\.x \(got 2\.0\); compare it with the release",
        ),
        (
            '{"schema_version": "1.0"}',
            r"new\.json: expected an audit report, got gate: Field required; and 3 more; run",
        ),
        (
            json.dumps({**report(), "verdicts": [{**report()["verdicts"][0], "measurement": {"value": "high"}}]}),
            r"got verdicts\[0\]\.measurement\.metric: Field required",
        ),
    ],
    ids=[
        "missing",
        "no JSON",
        "no text",
        "NaN",
        "too deep",
        "a list",
        "a number",
        "another major",
        "empty",
        "no figure",
    ],
)
def test_what_is_no_report_is_exit_4_and_one_line(tmp_path, capsys, content, message):
    (tmp_path / "old.json").write_text(json.dumps(report()), encoding="utf-8")
    if content is not None:
        (tmp_path / "new.json").write_bytes(content.encode("latin-1"))
    assert cli.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 4
    captured = capsys.readouterr()
    assert re.match(rf"AuditError: .*{message}", captured.err)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_folder_without_a_report_says_what_is_missing(tmp_path):
    with pytest.raises(
        AuditError, match=r"audit\.json: expected an audit\.json, or a report folder .* got No such file"
    ):
        compare.read(tmp_path)


def test_the_help_says_what_counts(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", "--help"])
    assert "with any of them the exit code is 1, else 0" in capsys.readouterr().out


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
UNIT = st.floats(0, 1)


@given(PLAIN)
def test_plain_data_do_not_differ_from_themselves(data):
    assert same(data, data)
    assert not list(differences({"key": data}, {"key": data}))


@given(st.tuples(UNIT, UNIT, UNIT).map(sorted), st.sampled_from(Status), st.dictionaries(st.text(max_size=3), PLAIN))
def test_an_audit_does_not_differ_from_itself_and_two_differ_both_ways_round(interval, status, rest):
    low, value, high = interval
    one = report([verdict(status=status, measurement=share(value, low, high))], header={"rest": rest})
    first, second = (compare.Audit.model_validate(data) for data in (one, report()))
    assert compare.compare(first, first) == compare.Comparison(())
    assert compare.compare(first, second).counts == compare.compare(second, first).counts
