"""Every class of weakness of the source: a planted file is found by the right rules, its good twin by none of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from audit.scanners import Bandit, Semgrep

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("_children_go_unmeasured")
RULES = ROOT / "policies/semgrep"
SECRET = "-".join(["zx81", "spectrum", "ql"])  # put in for <secret> below, so that no line here looks like one


@dataclass(frozen=True)
class Weakness:
    """A line that is bad, the rules that must find it, and a good line for the same purpose."""

    name: str
    bad: str
    good: str
    semgrep: str
    bandit: str | None = None
    imports: str = ""

    def source(self, line):
        """Return a module with this line in a function, whose parameters give it everything that it uses."""
        head = "def use(path, text, stream, network, images, labels, app, address, content, digest, seed):"
        body = "\n".join(f"    {one}" for one in line.splitlines())
        return f"{self.imports}\n\n\n{head}\n{body}\n    return path\n".replace("<secret>", SECRET).lstrip()


WEAKNESSES = (
    Weakness(
        "torch.load with whole pickles", "torch.load(path)", "torch.load(path, weights_only=True)",
        "torch-load-weights-only", "B614", "import torch",
    ),
    Weakness(
        "torch.load under another name", "read(path, map_location='cpu')", "read(path, weights_only=True)",
        "torch-load-weights-only", None, "from torch import load as read",
    ),
    Weakness("pickle", "pickle.load(stream)", "json.load(stream)", "unpickling", "B301", "import json\nimport pickle"),
    Weakness("joblib", "joblib.load(path)", "joblib.dump(network, path)", "unpickling", None, "import joblib"),
    Weakness("dill", "dill.loads(content)", "dill.dumps(network)", "unpickling", "B301", "import dill"),
    Weakness("shelve", "shelve.open(path)", "open(path)", "unpickling", "B301", "import shelve"),
    Weakness("marshal", "marshal.loads(content)", "marshal.dumps(1)", "unpickling", "B302", "import marshal"),
    Weakness(
        "numpy's object arrays", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=False)",
        "numpy-allow-pickle", None, "import numpy as np",
    ),
    Weakness(
        "yaml.load", "yaml.load(text, Loader=yaml.Loader)", "yaml.safe_load(text)",
        "yaml-unsafe-load", "B506", "import yaml",
    ),
    Weakness("eval on input", "eval(text)", "network.eval()", "evaluated-code", "B307"),
    Weakness("exec on input", "exec(text)", "text.execute()", "evaluated-code", "B102"),
    Weakness("compile on input", "compile(text, path, text)", "re.compile(text)", "evaluated-code", None, "import re"),
    Weakness(
        "subprocess with a shell", "subprocess.run(text, shell=True)", "subprocess.run([path])",
        "shell-command", "B602", "import subprocess",
    ),
    Weakness("os.system", "os.system(text)", "os.fspath(path)", "shell-command", "B605", "import os"),
    Weakness(
        "Flask in debug mode", "server = Flask(path)\nserver.run(debug=True)", "server = Flask(path)\nserver.run()",
        "debug-server", "B201", "from flask import Flask",
    ),
    Weakness(
        "bound to all interfaces", 'app.run(host="0.0.0.0")', 'app.run(host="127.0.0.1")',
        "bound-to-all-interfaces", "B104",
    ),
    Weakness(
        "a socket on all interfaces", 'socket.socket().bind(("", 80))', 'socket.socket().bind(("127.0.0.1", 80))',
        "bound-to-all-interfaces", None, "import socket",
    ),
    Weakness(
        "mktemp", "tempfile.mktemp()", "tempfile.mkstemp()", "predictable-temporary-file", "B306", "import tempfile"
    ),
    Weakness(
        "a fixed temporary name", 'open("/tmp/weights.pt", "wb")', "tempfile.TemporaryFile()",
        "predictable-temporary-file", "B108", "import tempfile",
    ),
    Weakness(
        "a request without time-out", "requests.get(address)", "requests.get(address, timeout=5)",
        "request-without-timeout", "B113", "import requests",
    ),
    Weakness(
        "urlopen without time-out", "urlopen(address)", "urlopen(address, timeout=5)",
        "request-without-timeout", None, "from urllib.request import urlopen",
    ),
    Weakness(
        "certificates not verified", "requests.get(address, timeout=5, verify=False)",
        "requests.get(address, timeout=5)",
        "certificate-not-verified", "B501", "import requests",
    ),
    Weakness(
        "tarfile's extractall", "tarfile.open(path).extractall(text)",
        'tarfile.open(path).extractall(text, filter="data")', "archive-extractall", "B202", "import tarfile",
    ),
    Weakness(
        "zipfile's extractall", "zipfile.ZipFile(path).extractall()", "zipfile.ZipFile(path).read(text)",
        "archive-extractall", None, "import zipfile",
    ),
    Weakness(
        "MD5 for integrity", "hashlib.md5(content)", "hashlib.sha256(content)", "weak-hash", "B324", "import hashlib"
    ),
    Weakness(
        "SHA-1 by name", 'hashlib.new("sha1", content)', 'hashlib.new("sha256", content)',
        "weak-hash", "B324", "import hashlib",
    ),
    Weakness(
        "a password in the source", 'password = "<secret>"', 'password = os.environ["PASSWORD"]',
        "hard-coded-secret", "B105", "import os",
    ),
    Weakness(
        "a password as argument", 'app.login(password="<secret>")', "app.login(password=text)",
        "hard-coded-secret", "B106",
    ),
    Weakness("a key in the source", 'API_KEY = "<secret>"', 'API_KEY = ""', "hard-coded-secret"),
    Weakness(
        "assert as a check", "assert text == digest", "if text != digest:\n    raise ValueError(text)",
        "assert-outside-tests", "B101",
    ),
    Weakness(
        "training mode left on", "network.train()\nnetwork(images)", "network.train()\nnetwork(images)\nnetwork.eval()",
        "training-mode-left-on",
    ),
    Weakness(
        "attack in training mode",
        "network.train()\ntorchattacks.PGD(network)(images, labels)\nnetwork.eval()",
        "network.train()\nnetwork.eval()\ntorchattacks.PGD(network)(images, labels)",
        "attack-in-training-mode", None, "import torchattacks",
    ),
    Weakness(
        "attack on a network that was never in eval mode",
        "fresh = app.build()\nPyTorchClassifier(model=fresh, loss=text)",
        "fresh = app.build().eval()\nPyTorchClassifier(model=fresh, loss=text)",
        "attack-in-training-mode", None, "from art.estimators.classification import PyTorchClassifier",
    ),
    Weakness(
        "PyTorch's global seed", "torch.manual_seed(seed)", "torch.Generator().manual_seed(seed)",
        "global-seed", None, "import torch",
    ),
    Weakness(
        "NumPy's global seed", "np.random.seed(seed)", "np.random.default_rng(seed)",
        "global-seed", None, "import numpy as np",
    ),
    Weakness(
        "NumPy's global generator", "np.random.rand(3)", "np.random.default_rng(seed).random(3)",
        "global-random-draw", None, "import numpy as np",
    ),
)  # fmt: skip


EACH = pytest.mark.parametrize(("index", "weakness"), list(enumerate(WEAKNESSES)), ids=[one.name for one in WEAKNESSES])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Plant everything in one folder, run each scanner once, and give the rules found by file."""
    folder = tmp_path_factory.mktemp("planted")
    for index, weakness in enumerate(WEAKNESSES):
        (folder / f"bad_{index}.py").write_text(weakness.source(weakness.bad), encoding="utf-8")
        (folder / f"good_{index}.py").write_text(weakness.source(weakness.good), encoding="utf-8")
    names = sorted(path.name for path in folder.iterdir())
    rules = {name: set() for name in names}
    for scanner in (Bandit(), Semgrep(rules="policies/semgrep")):
        scan = scanner.scan(folder, names, ROOT)
        assert scan.files_read == tuple(names)
        assert scan.errors == ()
        for finding in scan.findings:
            rules[finding.path].add(finding.rule)
    return rules


@EACH
def test_planted_weakness_is_found_by_its_rules(found, index, weakness):
    assert {weakness.semgrep} | ({weakness.bandit} - {None}) <= found[f"bad_{index}.py"]


@EACH
def test_good_twin_is_left_alone(found, index, weakness):
    assert not {weakness.semgrep, weakness.bandit} & found[f"good_{index}.py"]


def rule_ids():
    return [rule["id"] for path in sorted(RULES.glob("*.yaml")) for rule in yaml.safe_load(path.read_text())["rules"]]


def test_every_rule_has_a_planted_file():
    assert set(rule_ids()) == {one.semgrep for one in WEAKNESSES}
    assert len(rule_ids()) == len(set(rule_ids()))


def test_every_rule_file_has_a_fixture():
    assert {path.stem for path in RULES.glob("*.yaml")} == {path.stem for path in RULES.glob("*.py")}


def test_native_front_end_agrees_with_the_fixtures():
    """``semgrep --test`` holds the other front end against the same lines; this one is what the audit runs."""
    names = sorted(path.name for path in RULES.glob("*.py"))
    expected = {
        (name, number, rule)
        for name in names
        for number, line in enumerate((RULES / name).read_text(encoding="utf-8").splitlines(), start=2)
        for rule in re.findall(r"# ruleid: (\S+)", line)
    }
    findings = [
        finding
        for name in names  # each file against its own rules, as semgrep's test does
        for finding in Semgrep(rules=f"policies/semgrep/{Path(name).stem}.yaml").scan(RULES, [name], ROOT).findings
    ]
    assert {(one.path, one.line, one.rule) for one in findings} == expected
    assert len(expected) > 80


def test_assert_is_left_alone_in_tests(tmp_path):
    for name in ("tests/unit/helpers.py", "test_x.py", "conftest.py", "library.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def f(x):\n    assert x\n", encoding="utf-8")
    scan = Semgrep(rules="policies/semgrep").scan(
        tmp_path, ["tests/unit/helpers.py", "test_x.py", "conftest.py", "library.py"], ROOT
    )
    assert [finding.path for finding in scan.findings] == ["library.py"]
    assert len(scan.files_read) == 4


def test_shipped_control_is_found_by_every_rule_but_that_of_secrets(tmp_path):
    text = (ROOT / "policies/controls/vulnerable.py.txt").read_text(encoding="utf-8")
    (tmp_path / "planted.py").write_text(text, encoding="utf-8")
    rules = {
        finding.rule for finding in Semgrep(rules="policies/semgrep").scan(tmp_path, ["planted.py"], ROOT).findings
    }
    assert set(rule_ids()) - rules == {"hard-coded-secret"}  # here it would be one more secret in a tracked file
