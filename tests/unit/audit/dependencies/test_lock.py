"""DEP-002: each way in which an environment differs from its lock is found and named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from audit.dependencies import lock as locking
from audit.dependencies import planted
from audit.dependencies.difference import Difference, Inspected
from audit.dependencies.environment import Installed
from audit.dependencies.examine import dependency
from audit.dependencies.lock import compare, evidence_in, parse
from audit.errors import PolicyError
from audit.judge import judge
from audit.policy import load_policy
from audit.records import Status
from audit.requirements import LockRequirement

ROOT = Path(__file__).parents[4]
DIGEST = "0123456789abcdef" * 4
NOTHING = Inspected()  # wrong with the installed files
NAMES = ("alpha", "beta", "delta", "gamma", "torch")


def entry(name, version="1.0", marker="", digests=(DIGEST,)):
    hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
    return f"{name}=={version}{f' ; {marker}' if marker else ''}{hashes}\n    # via\n    #   something\n"


def text(*entries):
    return "".join(entries or (entry(name, "2.15.0" if name == "torch" else "1.0") for name in NAMES))


def environment(**changes):
    """Return what the lock says, with versions changed, packages added or, for None, taken away."""
    versions = {name: "2.15.0" if name == "torch" else "1.0" for name in NAMES} | changes
    return [Installed(name=name.replace("_", "-"), version=version) for name, version in versions.items() if version]


OF_INSTALLED_FILES = (
    "bad record", "changed", "foreign path", "gone", "hidden module", "no record", "shadowed", "start-up hook",
    "unchecked bytecode", "unowned", "variable",
)  # fmt: skip


def requirement(**changes):
    policy = load_policy(ROOT / "policies/digits.yaml", ROOT).policy
    shipped = next(one for one in policy.requirements if one.id == "DEP-002")
    return LockRequirement.model_validate({**shipped.model_dump(mode="json"), **changes})


def verdict(here, *texts, inspected=NOTHING, **changes):
    required = requirement(**changes)
    locks = {f"lock-{index}.txt": parse(one) for index, one in enumerate(texts or (text(),))}
    return judge("DEP-002", required.bound, evidence_in(required, locks, here, inspected))


def test_environment_that_is_the_lock_is_met():
    given = verdict(environment())
    assert given.status is Status.MET, given.reason
    assert given.evidence.control.status is Status.NOT_MET
    for rule in ("below floor", "direct source", "extra", "missing", "no hash", "other version", *OF_INSTALLED_FILES):
        assert rule in given.evidence.control.detail


@pytest.mark.parametrize(
    ("here", "rule", "words", "line"),
    [
        pytest.param(
            environment(leftover="3.1"), "extra", "leftover 3.1 is installed, but not in the lock", None, id="extra"
        ),
        pytest.param(environment(beta=None), "missing", "beta 1.0 is in the lock, but not installed", 5, id="missing"),
        pytest.param(
            environment(beta="1.0.post1"),
            "other version",
            "beta 1.0.post1 is installed, where the lock says 1.0",
            5,
            id="other",
        ),
        pytest.param(
            environment(beta="1.0+local"), "other version", "beta 1.0+local is installed", 5, id="another build"
        ),
        pytest.param(
            [*environment(), Installed(name="beta", version="0.9")],
            "other version",
            "beta 0.9 is installed",
            5,
            id="twice",
        ),
        pytest.param(
            [*environment(beta=None), Installed(name="beta", version="1.0", source="version control")],
            "direct source",
            "beta 1.0 was installed from a direct source (version control)",
            5,
            id="direct source",
        ),
        pytest.param(
            [*environment(), Installed(name="(no name)", version=None)], "extra", "(no version)", None, id="leftover"
        ),
    ],
)
def test_difference_is_found_and_named(here, rule, words, line):
    given = verdict(here)
    assert given.status is Status.NOT_MET
    (found,) = given.evidence.findings
    assert (found.rule, found.path, found.line) == (rule, "lock-0.txt", line)
    assert words in found.message


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.5.1", "torch: at least 2.6 is required, 2.5.1 is installed"),
        ("2.6.0rc1", "2.6.0rc1 is installed"),
        (None, "no version is installed"),
        ("unreadable", "unreadable is installed"),
    ],
)
def test_torch_below_its_floor_is_found_even_where_the_lock_asks_for_it(version, words):
    entries = [entry(name) for name in NAMES[:4]] + ([entry("torch", version)] if version and version[0] == "2" else [])
    given = verdict(environment(torch=version), text(*entries))
    assert given.status is Status.NOT_MET
    assert any(one.rule == "below floor" and words in one.message for one in given.evidence.findings)


@pytest.mark.parametrize(
    ("added", "rule", "line"),
    [
        pytest.param(entry("omega", digests=()), "no hash", 21, id="no hash"),
        pytest.param(entry("omega", digests=("abc",)), "not locked", 21, id="a hash too short"),
        pytest.param("omega==1.0 --hash=md5:0123456789abcdef0123456789abcdef\n", "not locked", 21, id="a weak hash"),
        pytest.param("omega>=1.0\n", "not locked", 21, id="a range"),
        pytest.param("omega==1.*\n", "not locked", 21, id="a prefix"),
        pytest.param("omega==1.0,!=1.1\n", "not locked", 21, id="two clauses"),
        pytest.param("omega @ https://example.org/omega-1.0.whl\n", "not locked", 21, id="an address"),
        pytest.param("-e .\n", "not locked", 21, id="editable"),
        pytest.param("--index-url https://example.org\n", "not locked", 21, id="another index"),
        pytest.param("-r other.txt\n", "not locked", 21, id="another file"),
        pytest.param("garbage here\n", "not locked", 21, id="garbage"),
        pytest.param(entry("Beta"), "twice", 21, id="an entry twice"),
    ],
)
def test_entry_that_locks_nothing_is_found(added, rule, line):
    given = verdict(environment(omega="1.0") if rule == "no hash" else environment(), text() + added)
    assert given.status is Status.NOT_MET
    (found,) = given.evidence.findings
    assert (found.rule, found.line) == (rule, line)


def test_markers_are_evaluated_for_this_interpreter():
    entries = (
        text()
        + entry("windows-only", marker="sys_platform == 'no-such-platform'")
        + entry("here", marker="python_version > '3'")
    )
    assert verdict(environment(here="1.0"), entries).status is Status.MET
    given = verdict(environment(here="1.0", windows_only="1.0"), entries)
    assert [one.rule for one in given.evidence.findings] == ["extra"]
    assert [one.rule for one in verdict(environment(), entries).evidence.findings] == ["missing"]


def test_exception_covers_what_is_extra_or_from_elsewhere_and_nothing_else():
    ours = Installed(name="model-security-audit", version="0.1", source="editable")
    given = verdict([*environment(), ours])
    assert given.status is Status.MET
    assert [(one.what, one.path) for one in given.evidence.suppressions] == [
        ("extra", "model-security-audit"),
        ("direct source", "model-security-audit"),
    ]
    excused = [{"package": "beta", "reason": "a reason long enough"}]
    assert verdict(environment(beta="2.0"), exceptions=excused).status is Status.NOT_MET
    assert verdict(environment(beta=None), exceptions=excused).status is Status.NOT_MET


def test_nearest_lock_tells_what_differs():
    other = text() + entry("omega")
    assert verdict(environment(omega="1.0"), text(), other).status is Status.MET
    given = verdict(environment(beta="2.0", omega="1.0"), text(), other)
    assert [(one.rule, one.path) for one in given.evidence.findings] == [("other version", "lock-1.txt")]
    assert given.evidence.tables["lock"]["differences"] == {"lock-0.txt": 2, "lock-1.txt": 1}


def test_names_are_compared_in_their_canonical_form():
    assert compare(parse(entry("Ruamel.YAML")), [Installed(name="ruamel-yaml", version="1.0")], {}) == []


def test_control_that_has_too_little_to_tamper_with_is_no_control():
    given = verdict(environment()[:3], text(*(entry(name) for name in NAMES[:3])), at_least={})
    assert given.status is Status.INCONCLUSIVE
    assert "expected four entries that are installed as locked (got 3)" in given.evidence.control.detail


def test_control_notices_a_comparison_that_sees_nothing(monkeypatch):
    monkeypatch.setattr(locking, "_of", lambda one, entry: iter(()))
    given = verdict(environment())
    assert given.status is Status.INCONCLUSIVE
    assert "extra: the tampered copy has it at alpha, and it was not found" in given.evidence.control.detail


def test_control_notices_an_inspection_that_sees_nothing(monkeypatch):
    monkeypatch.setattr(planted, "inspect", lambda *_: NOTHING)
    given = verdict(environment())
    assert given.status is Status.INCONCLUSIVE
    assert "changed: the tampered environment has it at alpha, and it was not found" in given.evidence.control.detail


def test_control_notices_an_inspection_that_sees_things(monkeypatch):
    alarm = Inspected((Difference("changed", "alpha", "everything is wrong"),))
    monkeypatch.setattr(planted, "inspect", lambda *_: alarm)
    assert "a sound environment: expected nothing in it" in verdict(environment()).evidence.control.detail


def test_installed_file_that_is_not_the_recorded_one_is_a_finding():
    changed = Difference("changed", "beta", "beta 1.0: 1 files ...", path="site-packages/beta/__init__.py")
    given = verdict(environment(), inspected=Inspected((changed,)))
    assert given.status is Status.NOT_MET
    (found,) = given.evidence.findings
    assert (found.rule, found.path, found.line) == ("changed", "site-packages/beta/__init__.py", None)


def test_installed_file_that_cannot_be_read_is_a_doubt():
    given = verdict(environment(), inspected=Inspected(doubts=("1 installed files cannot be read: x.py",)))
    assert given.status is Status.INCONCLUSIVE
    assert given.reason == "findings 0, required <= 0, but 1 installed files cannot be read: x.py"


def test_exception_covers_metadata_of_the_checkout_and_no_changed_file():
    def named(rule):
        return Inspected((Difference(rule, "model-security-audit", "a message"),))

    for rule in ("shadowed", "hidden module"):
        assert verdict(environment(), inspected=named(rule)).status is Status.MET
    for rule in ("changed", "gone", "no record", "bad record", "unowned", "foreign path"):
        assert verdict(environment(), inspected=named(rule)).status is Status.NOT_MET


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_shipped_locks_are_read_whole_and_have_torch_with_hashes(name):
    read = parse((ROOT / name).read_text(encoding="utf-8"))
    assert read.unread == ()
    assert all(one.hashed for one in read.entries)
    assert {"torch", "torchvision", "pip-audit"} <= set(read.wanted)
    assert len(read.entries) > len(read.wanted) > 100


def test_shipped_lock_against_itself_and_with_a_difference():
    read = parse((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    same = [Installed(name=one.name, version=one.version) for one in read.wanted.values()]
    assert compare(read, same, {"torch": "2.6"}) == []
    assert [one.rule for one in compare(read, same[1:], {})] == ["missing"]


def test_lock_that_cannot_be_read_is_a_doubt(tmp_path):
    (tmp_path / "lock.txt").write_bytes(b"\xff\xfe")
    required = requirement(locks=["lock.txt"])
    given = judge("DEP-002", required.bound, dependency(required, SimpleNamespace(root=tmp_path)))
    assert given.status is Status.INCONCLUSIVE
    assert "a lock cannot be read" in given.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"locks": ["none.txt"]}, r"requirements\[{index}\] \(DEP-002\): no such file \(got 'none\.txt'\)"),
        (
            {"at_least": {"torch": "new"}},
            r"requirements\[{index}\]\.at_least\.torch: expected a version by PEP 440 \(got 'new'\)",
        ),
        ({"check": "none"}, r"requirements\[{index}\]"),
    ],
)
def test_mistake_in_the_policy_is_one_line(tmp_path, change, message):
    policy = yaml.safe_load((ROOT / "policies/digits.yaml").read_text(encoding="utf-8"))
    (index,) = (index for index, one in enumerate(policy["requirements"]) if one["id"] == "DEP-002")
    policy["requirements"][index].update(change)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    with pytest.raises(PolicyError, match=message.replace("{index}", str(index))) as caught:
        load_policy(tmp_path / "policy.yaml", ROOT)
    assert "\n" not in str(caught.value)
