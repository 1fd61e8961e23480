"""The table of weaknesses fits the server that it patches."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from audit.serving.examine import CHECKS
from benchmarks.catches.__main__ import MANUAL, ROW, TABLE
from benchmarks.catches.mutant import PACKAGE, ROOT, DoesNotApply, Mutant, Patch, plant
from benchmarks.catches.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_weakness_can_still_be_planted(mutant, tmp_path):
    planted = plant(mutant, tmp_path)
    for patch in mutant.patches:
        text = (planted / PACKAGE / "serve" / patch.file).read_text(encoding="utf-8")
        assert patch.new in text
        if patch.file.endswith(".py"):
            ast.parse(text)
    assert mutant.check in CHECKS
    assert mutant.rules or mutant.missed


def test_what_is_not_there_cannot_be_replaced(tmp_path):
    with pytest.raises(DoesNotApply, match="found 0 times"):
        plant(Mutant("x", "log", (), (Patch("app.py", "nothing of the kind", ""),)), tmp_path)


def test_weaknesses_have_names_of_their_own_and_every_check_has_some():
    assert len({(mutant.check, mutant.name) for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.check for mutant in MUTANTS} == set(CHECKS)


def rules():
    """Yield each rule that a check states, where it is written out."""
    for path in (ROOT / "audit" / "serving").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "add"
                and node.args
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def test_two_weaknesses_or_more_break_each_rule():
    broken = Counter(rule for mutant in MUTANTS for rule in set(mutant.rules))
    assert len(set(rules())) > 60
    assert {rule: broken[rule] for rule in rules() if broken[rule] < 2} == {}


def test_the_manual_has_every_weakness():
    table = TABLE.search(MANUAL.read_text(encoding="utf-8"))
    assert table
    assert sorted(ROW.findall(table[0])) == sorted((mutant.check, mutant.name) for mutant in MUTANTS)
