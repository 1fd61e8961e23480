"""What a scanner has to read: the model's own code wherever it lies, and nothing left out in silence."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from audit.examine import static
from audit.isolation.host import InThisProcess
from audit.judge import judge
from audit.policy import PolicyFile, TargetSpec, load_policy
from audit.records import Status
from audit.requirements import StaticRequirement
from audit.scanners import Bandit, DetectSecrets
from audit.scanners.interface import Exclusion
from audit.scanners.source import imported, is_python
from audit.scope import scope_of
from tests.unit.audit.conftest import requirement
from tests.unit.audit.test_repository import checkout, commit, git

__all__ = ["checkout"]
ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("_children_go_unmeasured")
SCANNERS = {"bandit": {"name": "bandit"}, "semgrep": {"name": "semgrep", "rules": str(ROOT / "policies/semgrep")}}
PLANT = str(ROOT / "policies/controls/vulnerable.py.txt")
NET = """
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        return x
"""
WEAK = """
import pickle, subprocess, yaml


def read(stream, text):
    subprocess.run(text, shell=True)
    return pickle.loads(stream), yaml.load(text, Loader=yaml.Loader)
"""


def session_of(root, factory="net.py:Net", dataset="tests.unit.toy:data", targets=None, **named):
    """Return as much of a session as decides what is scanned."""
    targets = targets or {"mine": TargetSpec(factory=factory)}
    policy = {"trainer": None, "trainer_digest": None, "server": None, "dataset_factory": dataset, "targets": targets}
    file = PolicyFile(SimpleNamespace(**{**policy, **named}), root / "policy.yaml", "0")
    return SimpleNamespace(root=root, file=file, target_name="mine", spec=targets.__getitem__, host=InThisProcess())


@pytest.fixture
def forgetful():
    """Forget what is imported in a test."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def model(checkout, forgetful):
    """Give a repository whose policy names a factory in it."""
    write(checkout, "net.py", NET)
    commit(checkout)
    return checkout


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def verdict(root, scanner="bandit", **session):
    """Return the verdict on a static requirement, as an audit judges it."""
    bound = {"metric": "findings", "at_most": 0}
    data = requirement("STAT-001", "static", bound, scanner=SCANNERS[scanner], control={"plant": PLANT})
    required = StaticRequirement.model_validate(data)
    return judge(required.id, required.bound, static(required, session_of(root, **session)))


def beyond(root, **session):
    """Return what is read of a model beyond what its repository tracks, and what stays unread."""
    scope = scope_of(Bandit(), session_of(root, **session))
    return {*scope.files} - {"tracked.py", "net.py"}, scope.unread


def place_of(where):
    """Return the path of a hidden factory, and how the policy names it; outside, it is a module on Python's path."""
    return ("../own.py", "own:Net") if where == "outside" else ("own.py", "own.py:Net")


HIDDEN = {
    "untracked": lambda root, text: write(root, "own.py", text),
    "ignored": lambda root, text: (write(root, ".gitignore", "own.py\n"), write(root, "own.py", text)),
    "excluded here": lambda root, text: (write(root, ".git/info/exclude", "own.py\n"), write(root, "own.py", text)),
    "outside": lambda root, text: write(root.parent, "own.py", text),
}


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("where", HIDDEN)
def test_factory_that_git_does_not_track_is_scanned(checkout, forgetful, monkeypatch, scanner, where):
    HIDDEN[where](checkout, NET + WEAK)
    monkeypatch.syspath_prepend(str(checkout.parent))
    place, factory = place_of(where)
    given = verdict(checkout, scanner, factory=factory)
    assert given.status is Status.NOT_MET
    assert {one.path for one in given.evidence.findings} == {place}
    assert len(given.evidence.findings) >= 3


@pytest.mark.parametrize("where", ["ignored", "outside"])
def test_factory_that_says_it_is_another_file_is_scanned(checkout, forgetful, monkeypatch, where):
    HIDDEN[where](checkout, f"import torch\n\n__file__ = torch.__file__\n{NET}{WEAK}")
    monkeypatch.syspath_prepend(str(checkout.parent))
    place, factory = place_of(where)
    given = verdict(checkout, factory=factory)
    assert given.status is Status.NOT_MET
    assert {one.path for one in given.evidence.findings} == {place}


def test_model_whose_code_is_not_where_it_says_is_a_doubt(model):
    write(model, "net.py", f"__file__ = 'gone.py'\n{NET}")
    given = verdict(model)
    assert given.status is Status.INCONCLUSIVE
    assert "gone.py: code of the model is said to lie there, and does not" in given.reason


@pytest.mark.parametrize("where", ["untracked", "outside"])
def test_honest_factory_that_git_does_not_track_is_no_doubt(checkout, forgetful, monkeypatch, where):
    HIDDEN[where](checkout, NET)
    monkeypatch.syspath_prepend(str(checkout.parent))
    given = verdict(checkout, factory=place_of(where)[1])
    assert given.status is Status.MET, given.reason


def test_module_behind_the_network_is_scanned(model, monkeypatch):
    """The factory's own module does not refer to it: it is imported when the network is built."""
    write(model.parent, "elsewhere/layers_of_it.py", NET)
    monkeypatch.syspath_prepend(str(model.parent / "elsewhere"))
    write(model, "net.py", "def build():\n    from layers_of_it import Net\n    return Net()\n")
    assert "../elsewhere/layers_of_it.py" in beyond(model, factory="net.py:build")[0]


def test_both_networks_behind_a_defence_are_scanned(model, monkeypatch):
    monkeypatch.syspath_prepend(str(model.parent / "elsewhere"))
    for name in ("first", "second"):
        write(model.parent, f"elsewhere/layers_of_{name}.py", NET)
        write(model, f"{name}.py", f"def build():\n    from layers_of_{name} import Net\n    return Net()\n")
    targets = {name: TargetSpec(factory=f"{name}.py:build") for name in ("first", "second")}
    both = TargetSpec(wraps="first", defence={"name": "ensemble", "other": "second"})
    found, unread = beyond(model, targets={**targets, "mine": both})
    assert found >= {"../elsewhere/layers_of_first.py", "../elsewhere/layers_of_second.py"}
    assert unread == ()


@pytest.mark.parametrize("role", ["dataset", "trainer", "trainer_digest"])
def test_every_function_that_the_policy_names_is_scanned(model, role):
    write(model, "named.py", "def it():\n    pass\n")
    found, unread = beyond(model, **{"dataset_factory" if role == "dataset" else role: "named.py:it"})
    assert "named.py" in found
    assert unread == ()


def test_ignored_file_that_tracked_code_imports_is_scanned(model):
    write(model, ".gitignore", "helper.py\npackage/\nunused.py\n")
    for name in ("helper.py", "package/__init__.py", "package/aside.py", "unused.py"):
        write(model, name, "LIMIT = 1\n")
    write(model, "package/deep.py", "from . import aside\n")
    write(model, "tracked.py", "def f():\n    from helper import LIMIT\n    import package.deep\n")
    found, unread = beyond(model)
    assert found >= {"helper.py", "package/__init__.py", "package/deep.py", "package/aside.py"}
    assert "unused.py" not in found
    assert unread == ()


def test_modules_that_a_server_is_started_from_are_scanned(model):
    write(model, ".gitignore", "serve/\n")
    write(model, "serve/__main__.py", "")
    server = SimpleNamespace(model_dump=lambda: {"command": ("-m", "serve", "--port", "0"), "start_seconds": 1.0})
    assert "serve/__main__.py" in beyond(model, server=server)[0]


@pytest.mark.parametrize("scanner", SCANNERS)
def test_tracked_python_is_scanned_in_every_form(model, scanner):
    """Git was once asked for ``*.py`` only."""
    notebook = {"nbformat": 4, "cells": [{"cell_type": "code", "source": WEAK}]}
    forms = {"tool": f"#!/usr/bin/env python3\n{WEAK}", "window.pyw": WEAK, "work.ipynb": json.dumps(notebook)}
    for name, text in forms.items():
        write(model, name, text)
    commit(model)
    given = verdict(model, scanner)
    assert given.status is Status.NOT_MET
    assert {one.path for one in given.evidence.findings} == {*forms}


@pytest.mark.parametrize(
    ("name", "text"),
    [("other.py", ""), ("work.ipynb", "{}"), ("window.pyw", ""), ("tool", "#!/usr/bin/env python3\n"), ("x.pyc", "")],
)
def test_untracked_python_is_a_doubt(model, name, text):
    write(model, name, text)
    given = verdict(model)
    assert given.status is Status.INCONCLUSIVE
    assert f"{name}: git does not track it" in given.reason


def test_repository_inside_that_is_no_submodule_is_a_doubt(model):
    write(model, "nested/other.py", WEAK)
    git(model / "nested", "init", "--quiet")
    commit(model / "nested")
    given = verdict(model)
    assert given.status is Status.INCONCLUSIVE
    assert "nested/: git does not track it" in given.reason


def test_untracked_files_of_other_kinds_and_ignored_ones_are_no_doubt(model):
    for name in ("notes.txt", "tool", "ignored.py"):
        write(model, name, "#!/bin/sh\n")
    write(model, ".gitignore", "ignored.py\n")
    write(model, "reports/first/audit.json", "")
    (model / "reports/latest").symlink_to("first")
    given = verdict(model)
    assert given.status is Status.MET, given.reason


def test_untracked_file_that_the_policy_excludes_is_listed(model):
    write(model, "scratch/other.py", "")
    scanner = Bandit(exclude=(Exclusion(path="scratch/*", reason="thrown away every day"),))
    scope = scope_of(scanner, session_of(model))
    assert scope.unread == ()
    assert [one.path for one in scope.excluded] == ["scratch/other.py"]


def test_secrets_are_looked_for_in_tracked_files_only(model):
    """What git does not hand on gives no secret away."""
    write(model, "local_settings.py", "")
    scope = scope_of(DetectSecrets(), session_of(model))
    assert (scope.files, scope.unread) == (("net.py", "tracked.py"), ())


@pytest.mark.parametrize("kind", ["submodule", "missing", "link"])
def test_tracked_python_that_cannot_be_read_is_a_doubt(model, kind):
    if kind == "submodule":
        head = git(model, "rev-parse", "HEAD").strip()
        git(model, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    elif kind == "missing":
        (model / "tracked.py").unlink()
    else:
        (model / "lib").symlink_to(model.parent)
        commit(model)
    given = verdict(model)
    assert given.status is Status.INCONCLUSIVE
    assert "nothing was left unread" in given.reason


def test_file_that_git_is_told_not_to_look_at_is_scanned_as_it_lies_here(model):
    git(model, "update-index", "--assume-unchanged", "tracked.py")
    write(model, "tracked.py", WEAK)
    given = verdict(model)
    assert given.status is Status.NOT_MET
    assert given.evidence.findings[0].path == "tracked.py"


def test_other_index_does_not_hide_a_file(model, tmp_path, monkeypatch):
    write(model, "tracked.py", WEAK)
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert verdict(model).status is Status.NOT_MET


def test_network_that_cannot_be_built_is_a_doubt(model):
    write(model, "net.py", "def build():\n    raise RuntimeError\n")
    assert beyond(model, factory="net.py:build")[1] == (
        "target mine: its network could not be built (RuntimeError), so its code is unknown",
    )


def test_compiled_module_of_the_model_is_named(model):
    sys.modules["fast"] = ModuleType("fast")
    sys.modules["fast"].__file__ = str(model / "fast.so")
    (model / "fast.so").write_bytes(b"\x7fELF\0")
    write(model, "net.py", f"{NET}\n\nimport fast\n")
    given = verdict(model)
    assert given.status is Status.INCONCLUSIVE
    assert "fast.so: not text, so no scanner of source reads it" in given.reason


def test_only_unread_files_are_a_doubt_and_none_at_all_is_not_run(checkout):
    required, session = SimpleNamespace(scanner=DetectSecrets()), session_of(checkout)
    git(checkout, "rm", "--quiet", "tracked.py")
    assert static(required, session).not_run == "git tracks no text file here, so there is nothing to scan"
    write(checkout, "gone.txt", "")
    commit(checkout)
    (checkout / "gone.txt").unlink()
    assert static(required, session).doubt == "nothing was scanned, and gone.txt: it is tracked, but not here"


@pytest.mark.parametrize("factory", ["torchvision.models:resnet18", "torchvision.models:vit_b_32"])
def test_honest_installed_network_is_clean_by_the_shipped_policy(model, factory):
    """What defines it lies among the installed packages, and is scanned there; it may hold assertions."""
    policy = load_policy(ROOT / "policies/mnist.yaml", ROOT).policy
    scanners = [one.scanner for one in policy.requirements if one.id in ("STAT-001", "STAT-002")]
    for scanner in scanners:
        scope = scope_of(scanner, session_of(model, factory))
        assert any("site-packages/torchvision/models" in name for name in scope.files)
        assert [one for one in scanner.scan(model, scope.files, ROOT).findings if "torchvision" in one.path] == []
    assert len(scanners) == 2


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.py", "", True),
        ("A.PY", "", True),
        ("a.txt", "print()", False),
        ("tool.sh", "#!/usr/bin/env -S uv run --script\n", True),
        ("tool", "#!/usr/bin/python3.11 -I\n", True),
        ("tool", "#!/bin/sh\n'''exec' \"/opt/python\" \"$0\" \"$@\"\n' '''\n", True),
        ("tool", '#!/bin/sh\n""":"\nexec python3 "$0" "$@"\n"""\n', True),
        ("tool", "#!/bin/sh\n# -*- mode: python -*-\n\n''':'\nexec /opt/python \"$0\"\n'''\n", True),
        ("tool", "#!/bin/sh\nexec python -m app\n", False),
        ("tool", "#!/bin/sh\n# as python does\necho 'x'\nexec python -m app\n", False),
        ("tool", "text\n#!/usr/bin/env python\n", False),
    ],
)
def test_python_is_known_by_its_suffix_or_its_first_line(tmp_path, name, content, expected):
    write(tmp_path, name, content)
    assert is_python(tmp_path / name) is expected


def test_notebook_and_script_are_followed_and_what_is_installed_is_not(tmp_path):
    write(tmp_path, "work.ipynb", '{"nbformat": 4, "cells": [{"cell_type": "code", "source": "import first"}]}')
    write(tmp_path, "first.py", "import lib.second")
    write(tmp_path, "lib/second.py", "import third")
    write(tmp_path, "third.py", "(")
    seen = imported([tmp_path / "work.ipynb"], tmp_path, [str(tmp_path / "lib")])
    assert {path.name for path in seen} == {"work.ipynb", "first.py", "second.py"}
