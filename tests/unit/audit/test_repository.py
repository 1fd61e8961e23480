"""What git is asked, and what nobody can talk it out of: every trick here once hid a file."""

from __future__ import annotations

import os
import stat

import pytest

from audit import programs, repository
from audit.errors import ScannerFailed, ScannerMissing
from audit.process import run
from audit.programs import find_program
from audit.repository import is_dirty, tracked_files, working_tree
from audit.tools import environment


@pytest.fixture
def checkout(tmp_path):
    """Give a repository with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "tracked.py").write_text("x = 1\n", encoding="utf-8")
    commit(folder)
    return folder


def git(folder, *words):
    """Run git as the tests' own author."""
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = run([find_program("git"), *author, *words], cwd=folder, seconds=30, environment=environment())
    assert done.code == 0, done.stderr
    return done.stdout


def commit(folder):
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "more")


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("variable", ["GIT_INDEX_FILE", "GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"])
def test_variable_does_not_show_git_another_index_or_tree(checkout, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert tracked_files(checkout, "*.py") == ("tracked.py",)
    assert working_tree(checkout).tracked == ["tracked.py"]


def test_variable_does_not_configure_git(checkout, monkeypatch, tmp_path):
    (tmp_path / "ignore").write_text("new.py\n", encoding="utf-8")
    for name, value in (("COUNT", "1"), ("KEY_0", "core.excludesFile"), ("VALUE_0", str(tmp_path / "ignore"))):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    (checkout / "new.py").touch()
    assert is_dirty(checkout) is True


def test_fake_git_on_path_is_not_run(checkout, tmp_path, monkeypatch):
    program(tmp_path / "bin/git", f'touch {tmp_path}/ran; exec {find_program("git")} "$@"')  # nobody would notice
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert working_tree(checkout).tracked == ["tracked.py"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["in the repository", "writable", "in a writable folder", "renamed", "relative"])
def test_git_that_anybody_may_have_put_there_is_refused(checkout, tmp_path, monkeypatch, place):
    folder = (checkout if place in ("in the repository", "relative") else tmp_path) / "up/bin"
    fake = program(folder / "git", f"touch {tmp_path}/ran")
    if place == "writable":
        fake.chmod(0o777)
    elif place != "in the repository":
        (folder.parent if place == "renamed" else folder).chmod(0o777)
    monkeypatch.setattr(programs, "SYSTEM", ())
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PATH", "up/bin" if place == "relative" else str(folder))
    with pytest.raises(
        ScannerMissing, match=r"git: expected on PATH, outside of the audited repository .* was not run"
    ):
        working_tree(checkout)
    assert not (tmp_path / "ran").exists()
    assert place == "writable" or str(folder) not in environment(checkout)["PATH"]


def test_git_of_one_s_own_is_taken_where_the_system_has_none(tmp_path, monkeypatch):
    fake = program(tmp_path / "bin/git", "exit 0")
    monkeypatch.setattr(programs, "SYSTEM", ())
    monkeypatch.setenv("PATH", str(fake.parent))
    assert find_program("git", tmp_path / "checkout") == str(fake)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(ScannerMissing, match="git: expected on PATH, not found"):
        find_program("git")


@pytest.mark.parametrize("where", ["..", "elsewhere"])
def test_configured_working_tree_elsewhere_is_a_doubt(checkout, tmp_path, where):
    (checkout / "elsewhere").mkdir()
    git(checkout, "config", "core.worktree", str((checkout / where).resolve()))
    with pytest.raises(ScannerFailed, match="git"):
        working_tree(checkout)


def test_configured_programs_are_not_run(checkout, tmp_path):
    hook = program(tmp_path / "hook", f"touch {tmp_path}/ran")
    program(checkout / ".git/hooks/post-index-change", f"touch {tmp_path}/ran")
    git(checkout, "config", "core.fsmonitor", str(hook))
    (tmp_path / "ran").unlink(missing_ok=True)
    (checkout / "tracked.py").touch()
    working_tree(checkout)
    is_dirty(checkout)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("bit", ["--assume-unchanged", "--skip-worktree"])
def test_file_that_git_was_told_not_to_look_at_is_listed_and_the_tree_not_called_clean(checkout, bit):
    git(checkout, "update-index", bit, "tracked.py")
    (checkout / "tracked.py").write_text("eval(input())\n", encoding="utf-8")
    assert working_tree(checkout).tracked == ["tracked.py"]
    assert git(checkout, "status", "--porcelain") == ""
    assert is_dirty(checkout) is None


def test_tracked_file_that_is_not_here_is_a_doubt(checkout):
    git(checkout, "update-index", "--skip-worktree", "tracked.py")
    (checkout / "tracked.py").unlink()
    assert working_tree(checkout).unread == {"tracked.py": "it is tracked, but not here"}


def test_configuration_does_not_hide_that_the_tree_is_dirty(checkout):
    assert is_dirty(checkout) is False
    git(checkout, "config", "status.showUntrackedFiles", "no")
    (checkout / "new.py").touch()
    assert is_dirty(checkout) is True


def test_what_only_this_machine_ignores_is_not_ignored(checkout, tmp_path):
    for name in ("excluded.py", "everywhere.py", "ignored.py"):
        (checkout / name).touch()
    (checkout / ".git/info/exclude").write_text("excluded.py\n", encoding="utf-8")
    (tmp_path / "ignore").write_text("everywhere.py\n", encoding="utf-8")
    git(checkout, "config", "core.excludesFile", str(tmp_path / "ignore"))
    (checkout / ".gitignore").write_text("ignored.py\n.gitignore\n", encoding="utf-8")
    assert working_tree(checkout).untracked == ["everywhere.py", "excluded.py"]


def test_links_out_of_the_repository_and_to_untracked_folders_are_doubts(checkout, tmp_path):
    (tmp_path / "outside.py").touch()
    (checkout / "build").mkdir()
    (checkout / "src").mkdir()
    (checkout / "src/net.py").touch()
    for name, target in (
        ("out.py", tmp_path / "outside.py"), ("folder", tmp_path), ("lib", checkout / "build"),
        ("same.py", checkout / "tracked.py"), ("alias", checkout / "src"), ("broken.py", checkout / "none.py"),
        ("circle.py", checkout / "circle.py"),
    ):  # fmt: skip
        (checkout / name).symlink_to(target)
    commit(checkout)
    found = working_tree(checkout)
    assert {name: why.partition(",")[0] for name, why in found.unread.items()} == {
        "out.py": "it leads out of the repository",
        "folder": "it leads out of the repository",
        "lib": "it leads to a folder in which git tracks nothing",
        "broken.py": "it is tracked",
        "circle.py": "it is tracked",
    }
    assert found.tracked == ["out.py", "same.py", "src/net.py", "tracked.py"]


def test_submodules_are_read_or_named(checkout, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (inner / "deep.py").touch()
    commit(inner)
    git(checkout, "submodule", "--quiet", "add", str(inner), "sub")
    commit(checkout)
    (checkout / "sub/new.py").touch()
    found = working_tree(checkout)
    assert found.tracked == [".gitmodules", "sub/deep.py", "tracked.py"]
    assert found.untracked == ["sub/new.py"]
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(checkout), str(clone))
    assert working_tree(clone).unread == {"sub": "a submodule that is not checked out"}


def test_repository_inside_that_is_no_submodule_is_named(checkout):
    (checkout / "nested").mkdir()
    git(checkout / "nested", "init", "--quiet")
    (checkout / "nested/a.py").touch()
    commit(checkout / "nested")
    assert working_tree(checkout).untracked == ["nested/"]


def test_checkout_below_another_folder_and_outside_of_any(checkout, tmp_path):
    (checkout / "part").mkdir()
    (checkout / "part/a.py").touch()
    commit(checkout)
    assert working_tree(checkout / "part").tracked == ["a.py"]
    (tmp_path / "plain").mkdir()
    with pytest.raises(ScannerFailed, match="not a git repository"):
        working_tree(tmp_path / "plain")
    assert is_dirty(tmp_path / "plain") is None
    assert repository.commit(tmp_path / "plain") is None


def test_folder_of_one_s_own_may_lie_below_a_sticky_one(tmp_path):
    """What lies in a folder of one's own below /tmp cannot be replaced by others: the folder above is sticky."""
    assert tmp_path.stat().st_mode & stat.S_IWOTH == 0
    assert programs._owned(tmp_path, None)
