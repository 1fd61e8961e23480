"""An audit compares its policy with the one at the merge base by itself, and says so where it cannot."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from audit import programs
from audit.errors import AuditError
from audit.policy import read_policy
from audit.process import run
from audit.since_base import find_base, policy_changes
from audit.waivers import read_waivers
from tests.unit.audit.conftest import toy_policy

WAIVERS = "policies/waivers.yaml"
OURSELVES = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")


class Repository:
    """A git repository with a policy."""

    def __init__(self, root):
        self.root = root
        (root / "policies").mkdir(parents=True)
        self.policy = toy_policy()
        self.policy["targets"]["honest"]["sha256"] = "0" * 64
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *words):
        done = run(["git", *OURSELVES, *words], cwd=self.root, seconds=30)
        assert done.code == 0, done.stderr
        return done.stdout.strip()

    def write(self, name="policies/toy.yaml", data=None):
        (self.root / name).write_text(yaml.safe_dump(self.policy if data is None else data), encoding="utf-8")

    def commit(self, *, policy=True):
        if policy:
            self.write()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a commit")
        return self.git("rev-parse", "HEAD")

    def floor(self, value):
        self.policy["requirements"][1]["bound"]["at_least"] = value

    def changes(self, name="policies/toy.yaml"):
        waivers = self.root / WAIVERS
        excused = read_waivers(waivers) if waivers.is_file() else ()
        return policy_changes(self.root, read_policy(self.root / name, self.root), WAIVERS, excused)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def branch(repository):
    """Give a repository whose branch ``loose`` has lowered a floor in two commits, and the merge base."""
    base = repository.commit()
    repository.git("checkout", "--quiet", "-b", "loose")
    repository.floor(0.5)
    repository.commit()
    repository.commit()
    return repository, base


LOWER = "EVA-001: bound.at_least: 0.9 -> 0.5"


def test_floor_lowered_on_a_branch_is_told(branch):
    repository, base = branch
    found = repository.changes()
    assert (found["base"], found["compared_with"]) == (base, "the merge base with main")
    assert (found["loosened"], found["tightened"], found["changed"], found["note"]) == ([LOWER], [], [], None)
    assert found["sentences"] == [f"The policy was LOOSENED since {base[:10]}, the merge base with main: {LOWER}"]


def test_floor_lowered_and_not_committed_is_told_on_any_branch(repository):
    repository.commit()
    repository.floor(0.5)
    repository.write()
    assert repository.changes()["compared_with"] == "the first commit"
    assert repository.changes()["loosened"] == [LOWER]
    repository.floor(0.9)
    repository.commit()
    repository.floor(0.5)
    repository.write()
    assert repository.changes()["compared_with"] == "the last commit before HEAD on main"
    assert repository.changes()["loosened"] == [LOWER]


def test_floor_lowered_by_the_last_commit_on_the_default_branch_is_told(repository):
    first = repository.commit()
    repository.floor(0.5)
    repository.commit()
    assert repository.changes()["base"] == first
    assert repository.changes()["loosened"] == [LOWER]


def test_branch_that_loosens_nothing_says_so(repository):
    base = repository.commit()
    repository.git("checkout", "--quiet", "-b", "strict")
    repository.floor(0.95)
    repository.commit()
    found = repository.changes()
    assert (found["loosened"], found["tightened"]) == ([], ["EVA-001: bound.at_least: 0.9 -> 0.95"])
    assert found["sentences"] == [f"The policy was not loosened since {base[:10]}, the merge base with main."]


def test_main_that_went_on_is_not_held_against_a_branch(branch):
    repository, base = branch
    repository.git("checkout", "--quiet", "main")
    repository.floor(0.99)
    repository.commit()
    repository.git("checkout", "--quiet", "loose")
    assert repository.changes()["base"] == base


def test_origin_is_the_default_branch_where_there_is_one(branch):
    repository, base = branch
    repository.git("update-ref", "refs/remotes/origin/main", base)
    repository.git("branch", "--quiet", "--force", "main", "loose")  # ours may be anywhere
    assert repository.changes()["compared_with"] == "the merge base with origin/main"
    assert repository.changes()["loosened"] == [LOWER]
    repository.git("update-ref", "refs/remotes/origin/trunk", base)
    repository.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    assert repository.changes()["compared_with"] == "the merge base with origin/HEAD"


def test_waiver_added_on_a_branch_is_told(branch):
    repository, _ = branch
    waiver = {"id": "EVA-001", "reason": "a reason long enough", "owner": "someone", "expires": "2027-01-01"}
    repository.write(WAIVERS, {"waivers": [waiver]})
    added = "EVA-001: waiver added: a reason long enough (someone, until 2027-01-01)"
    assert repository.changes()["loosened"] == [LOWER, added]
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "loose")
    (repository.root / WAIVERS).unlink()
    assert repository.changes()["note"] is None


def test_what_a_policy_extends_is_read_as_it_was(repository):
    mine = {"extends": "policies/toy.yaml", "target": "fragile"}
    repository.write("policies/mine.yaml", mine)
    repository.commit()
    repository.floor(0.5)
    repository.write()
    assert repository.changes("policies/mine.yaml")["loosened"] == [LOWER]


def test_requirement_that_is_dropped_is_told(branch):
    repository, _ = branch
    ids = [one["id"] for one in repository.policy["requirements"]]
    repository.policy["requirements"] = [repository.policy["requirements"][1] | {"id": "EVA-101"}]
    repository.write()
    dropped = [line.partition(":")[0] for line in repository.changes()["loosened"] if "requirement removed" in line]
    assert dropped == ids


def test_link_to_an_easier_policy_that_was_there_is_held_against_the_file_that_it_replaces(repository):
    repository.floor(0.5)
    repository.write("policies/easy.yaml")
    repository.floor(0.9)
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "loose")
    (repository.root / "policies/toy.yaml").unlink()
    (repository.root / "policies/toy.yaml").symlink_to("easy.yaml")
    repository.commit(policy=False)
    assert repository.changes()["loosened"] == [LOWER]


def test_link_among_waivers_is_held_against_the_file_that_it_replaces(repository):
    waiver = {"id": "EVA-001", "reason": "a reason long enough", "owner": "someone", "expires": "2027-01-01"}
    repository.write("policies/some.yaml", {"waivers": [waiver]})
    repository.write(WAIVERS, {"waivers": []})
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "loose")
    (repository.root / WAIVERS).unlink()
    (repository.root / WAIVERS).symlink_to("some.yaml")
    assert repository.changes()["loosened"] == [
        "EVA-001: waiver added: a reason long enough (someone, until 2027-01-01)"
    ]


def unknown(found, message):
    (sentence,) = found["sentences"]
    assert sentence.startswith("Whether the policy was loosened")
    assert message in sentence
    assert message in found["note"]
    assert found["loosened"] == []


def test_no_git_is_said(tmp_path, repository, monkeypatch):
    repository.write()
    shutil.rmtree(repository.root / ".git")
    unknown(repository.changes(), "not a git repository")
    monkeypatch.setattr(programs, "SYSTEM", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    unknown(repository.changes(), "git: expected on PATH, not found")


def test_no_commit_is_said(repository):
    repository.write()
    unknown(repository.changes(), "there is no commit yet")


def test_shallow_clone_is_said(branch, tmp_path):
    repository, _ = branch
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.root}", str(tmp_path / "shallow"))
    with pytest.raises(AuditError, match="a shallow clone; fetch the whole history"):
        find_base(tmp_path / "shallow")


def test_no_default_branch_is_said(repository):
    repository.git("checkout", "--quiet", "-b", "trunk")
    repository.commit()
    unknown(repository.changes(), "there is no branch origin/HEAD, origin/main, origin/master, main or master")


def test_no_common_commit_is_said(repository):
    repository.commit()
    repository.git("checkout", "--quiet", "--orphan", "apart")
    repository.floor(0.5)
    repository.commit()
    unknown(repository.changes(), "HEAD and main have no commit in common")


def test_policy_that_is_new_or_renamed_is_said(branch):
    repository, _ = branch
    repository.write("policies/other.yaml")
    unknown(repository.changes("policies/other.yaml"), "it is new or was renamed")


def test_policy_outside_the_repository_is_said(branch, tmp_path):
    repository, _ = branch
    (tmp_path / "out.yaml").write_text(yaml.safe_dump(repository.policy), encoding="utf-8")
    unknown(repository.changes(tmp_path / "out.yaml"), "out.yaml lies outside the repository")


def test_old_policy_that_is_none_any_more_is_said(repository):
    repository.policy["requirements"][1]["bound"]["confidence"] = 0.51
    repository.commit()
    repository.policy["requirements"][1]["bound"]["confidence"] = 0.95
    repository.write()
    unknown(repository.changes(), "requirements[1].bound.confidence")


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_OBJECT_DIRECTORY"])
def test_no_variable_has_git_look_elsewhere(branch, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert branch[0].changes()["loosened"] == [LOWER]


def test_whole_audit_begins_its_reports_with_what_was_loosened_and_its_gate_stays_open(toy_audit):
    toy_audit.git("symbolic-ref", "HEAD", "refs/heads/main")
    toy_audit.write("policies/toy.yaml", yaml.safe_dump(toy_audit.policy))
    toy_audit.git("add", "--all")
    toy_audit.git(*OURSELVES, "commit", "--quiet", "--message", "a commit")
    toy_audit.requirement("PERF-001")["bound"]["at_least"] = 0.9
    result = toy_audit.audit("--only", "PERF-001")
    assert result.ret == 0
    lower = "PERF-001: bound.at_least: 0.95 -> 0.9"
    result.stdout.fnmatch_lines([f"The policy was LOOSENED since *: {lower}", "*The gate is OPEN.*", "report: *"])
    report = toy_audit.report()
    assert report["policy_changes"]["loosened"] == [lower]
    folder = toy_audit.root / "reports/latest"
    sarif = json.loads((folder / "audit.sarif").read_text(encoding="utf-8"))
    assert sarif["properties"]["policyChanges"]["loosened"] == [lower]
    assert "The gate is OPEN." in sarif["properties"]["gate"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    place = page.index("bound.at_least: 0.95 -&gt; 0.9")
    assert page.index('<section id="gate">') < place < page.index('<section id="not-examined">')
