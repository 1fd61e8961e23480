"""What a policy names is loaded elsewhere: the audit's own process imports none of it."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from audit.artifacts.weights import file_sha256
from audit.errors import DataError, DataMissing, IntegrityError, PolicyError, TargetError, ThirdPartyFailed
from audit.isolation import host, source
from audit.isolation.code import Named
from audit.isolation.confine import CPU_SECONDS, memory
from audit.isolation.host import Processes
from audit.loading import Samples
from audit.process import run
from audit.target import Blueprint

ROOT = Path(__file__).parents[4]
DATA = '''
"""A dataset and a trainer that tell what they could do."""
import hashlib
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent


@dataclass
class Split:
    images: torch.Tensor
    labels: torch.Tensor


@dataclass
class Data:
    audit: Split
    training: Split
    name: str = "dots"
    classes: int = 2
    secret: int = 7


@dataclass
class Trained:
    path: Path
    sha256: str
    notes: tuple = ()


def allowed(what):
    try:
        what()
    except PermissionError:
        return "refused"
    return "allowed"


def data(offline):
    (HERE / "fetched").write_text(allowed(socket.socket))
    return Data(Split(torch.rand(8, 1, 2, 2), torch.arange(8) % 2), Split(torch.rand(6, 1, 2, 2), torch.arange(6) % 2))


def train(recipe, data, *, device, retrain, seed=None, examples=None):
    print(f"training {recipe}")
    if recipe == "endless":
        time.sleep(600)
    if recipe == "broken":
        raise OSError("the disc is full")
    path = HERE / "made.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    seen = "none" if examples is None else f"{tuple(examples[0].shape)} {examples[1].tolist()}"
    notes = (f"socket {allowed(socket.socket)}", f"secret {data.secret}", f"examples {seen}", f"seed {seed}")
    return Trained(path, hashlib.sha256(path.read_bytes()).hexdigest(), notes)


def digest(recipe, data):
    return f"{recipe} {data.secret}"


def missing(offline):
    raise FileNotFoundError("dots: no copy here")


def damaged(offline):
    raise ValueError("dots: expected SHA-256 aa, got bb")


def leaving(offline):
    import os
    os._exit(0)


def hanging(offline):
    time.sleep(600)


def limits():
    raise ValueError([resource.getrlimit(one)[0] for one in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)])


def limited(offline):
    limits()


def daemon(offline):
    """Leave a process behind that nobody waits for."""
    import os
    import time
    first = os.fork()
    if not first:
        if os.fork():
            os._exit(0)
        (HERE / "daemon").write_text(str(os.getpid()))
        time.sleep(600)
    os.waitpid(first, 0)
    while not (HERE / "daemon").exists():
        time.sleep(0.01)
    return data(offline)


def lying(offline):
    """Say that a file has no end."""
    return Data(Split(torch.rand(8, 1, 2, 2), torch.arange(8) % 2), None, name="dots\x1b[2J")


def endless(recipe, data, *, device, retrain):
    return Trained(Path("/dev/zero"), "0" * 64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def writing():
    (HERE / "written").write_text("x")
    return Net()


def calling():
    socket.socket()
    return Net()


def leaving_factory():
    import os
    os._exit(0)
'''


@pytest.fixture
def folder(tmp_path):
    """Give a folder with code in it."""
    (tmp_path / "mine.py").write_text(DATA)
    return tmp_path


def blueprint(folder, factory, **more):
    return Blueprint(name="mine", root=folder, classes=2, bounds=(0.0, 1.0), factory=f"mine.py:{factory}", **more)


@pytest.mark.parametrize(("offline", "network"), [(True, "refused"), (False, "allowed")])
def test_only_a_data_factory_may_use_the_network_unless_offline(processes, folder, offline, network):
    data = processes.dataset("mine.py:data", folder, offline=offline)
    assert (folder / "fetched").read_text() == network
    assert (data.name, data.classes, len(data.audit), len(data.training)) == ("dots", 2, 8, 6)
    made = data.source.train("mine.py:train", "small", device="cpu", retrain=False)
    assert made.notes[0] == "socket refused"


def test_a_trainer_has_the_factorys_own_object_and_what_it_is_given(processes, folder):
    source = processes.dataset("mine.py:data", folder, offline=True).source
    plain = source.train("mine.py:train", "small", device="cpu", retrain=False)
    assert plain.notes[1:] == ("secret 7", "examples none", "seed None")
    assert plain.path == folder / "made.safetensors"
    examples = Samples(torch.rand(3, 1, 2, 2), torch.tensor([1, 0, 1]))
    other = source.train("mine.py:train", "small", device="cpu", retrain=False, seed=5, examples=examples)
    assert other.notes[2:] == ("examples (3, 1, 2, 2) [1, 0, 1]", "seed 5")
    assert source.training_digest("mine.py:digest", "small") == "small 7"


def test_a_trainers_progress_reaches_the_terminal(processes, folder, capfd):
    source = processes.dataset("mine.py:data", folder, offline=True).source
    source.train("mine.py:train", "small", device="cpu", retrain=False)
    assert "training small" in capfd.readouterr().out


def test_what_a_trainer_raises_is_told(processes, folder):
    source = processes.dataset("mine.py:data", folder, offline=True).source
    with pytest.raises(TargetError, match="OSError: the disc is full"):
        source.train("mine.py:train", "broken", device="cpu", retrain=False)
    with pytest.raises(PolicyError, match="trainer: expected an importable"):
        source.train("mine.py:nowhere", "small", device="cpu", retrain=False)


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("missing", DataMissing, "no copy here"),
        ("damaged", DataError, "expected SHA-256 aa, got bb"),
        ("leaving", DataError, "its process ended before it answered"),
        ("nowhere", PolicyError, "dataset: expected an importable"),
    ],
)
def test_what_is_wrong_with_data_is_told_as_it_would_be_here(processes, folder, factory, error, message):
    with pytest.raises(error, match=message):
        processes.dataset(f"mine.py:{factory}", folder, offline=True)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("writing", "mine.py:writing raised PermissionError"),
        ("calling", "mine.py:calling raised PermissionError"),
        ("leaving_factory", "target mine: its process ended before it answered"),
    ],
)
def test_a_factory_has_neither_network_nor_files_to_write(processes, folder, factory, message):
    with pytest.raises(TargetError, match=message):
        processes.target(blueprint(folder, factory), torch.device("cpu"))
    assert not (folder / "written").exists()


@pytest.mark.parametrize("factory", ["writing", "calling"])
def test_code_that_is_looked_into_has_neither_network_nor_files_to_write(processes, folder, factory):
    found = processes.sources_of([], [Named(f"mine.py:{factory}", "targets.x.factory")], folder)
    assert found.notes == ("target x: its network could not be built (PermissionError), so its code is unknown",)
    assert not (folder / "written").exists()


def limits(memory, seconds):
    """Return a pattern of what a process says that was given so much, from limits that may be lower here."""

    def lower(kind, most):
        soft, hard = resource.getrlimit(kind)
        return soft if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)

    return re.escape(str([lower(resource.RLIMIT_DATA, memory), lower(resource.RLIMIT_CPU, seconds)]))


def test_memory_and_processor_time_have_an_end(processes, folder):
    with pytest.raises(TargetError, match=limits(memory() // 2, CPU_SECONDS)):
        processes.target(blueprint(folder, "limits"), torch.device("cpu"))
    with pytest.raises(DataError, match=limits(memory(), None)):
        processes.dataset("mine.py:limited", folder, offline=True)


def test_neither_a_data_factory_nor_a_trainer_is_waited_for_without_end(processes, folder, monkeypatch):
    with monkeypatch.context() as short:
        short.setattr(host, "DATA_SECONDS", 1.0)
        with pytest.raises(DataError, match="did not answer in time"):
            processes.dataset("mine.py:hanging", folder, offline=True)
    data = processes.dataset("mine.py:data", folder, offline=True)
    monkeypatch.setattr(source, "TRAINING_SECONDS", 1.0)
    with pytest.raises(ThirdPartyFailed, match="did not answer in time"):
        data.source.train("mine.py:train", "endless", device="cpu", retrain=False)


def test_weights_are_verified_where_the_network_is_built(processes, folder):
    save_file({"weight": torch.zeros(1)}, folder / "w.safetensors")
    named = blueprint(folder, "Net", weights=folder / "w.safetensors", sha256="0" * 64)
    with pytest.raises(IntegrityError, match="expected SHA-256 0000"):
        processes.target(named, torch.device("cpu"))


def test_functions_are_looked_up_elsewhere(processes, folder):
    processes.check([Named("mine.py:Net", "targets.x.factory")], folder)
    with pytest.raises(PolicyError, match=r"targets.y.factory: expected an importable"):
        processes.check([Named("mine.py:Net", "targets.x.factory"), Named("mine.py:No", "targets.y.factory")], folder)


def test_the_files_of_code_are_found_elsewhere(processes, folder):
    (folder / "other.py").write_text("from torch import nn\nclass Layer(nn.Identity):\n    pass\n")
    (folder / "main.py").write_text("from other import Layer\ndef make():\n    return Layer()\ndef no():\n    1 / 0\n")
    found = processes.sources_of(["main.py:make"], [Named("main.py:make", "targets.x.factory")], folder)
    assert {Path(one).name for one in found.files} >= {"main.py", "other.py"}
    broken = processes.sources_of([], [Named("main.py:no", "targets.x.factory")], folder)
    assert broken.notes == ("target x: its network could not be built (ZeroDivisionError), so its code is unknown",)


def test_this_process_imports_nothing_that_a_policy_names(folder):
    program = f"""
import sys, torch
from pathlib import Path
from audit.isolation.code import Named
from audit.isolation.host import Processes
from audit.target import Blueprint
before, root = set(sys.modules), Path({str(folder)!r})
processes = Processes()
data = processes.dataset("mine.py:data", root, offline=True)
data.source.train("mine.py:train", "small", device="cpu", retrain=False)
named = Blueprint(name="mine", root=root, classes=2, bounds=(0.0, 1.0), factory="mine.py:Net")
processes.target(named, torch.device("cpu"))
processes.check([Named("mine.py:Net", "x")], root)
processes.sources_of(["mine.py:Net"], [Named("mine.py:Net", "targets.x.factory")], root)
files = [getattr(one, "__file__", None) or "" for one in list(sys.modules.values())]
print([one for one in files if one.startswith(str(root))])
processes.close()
"""
    done = run([sys.executable, "-c", program], cwd=ROOT, seconds=120)
    assert (done.code, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_nothing_is_left_of_them(folder):
    processes = Processes()
    processes.target(blueprint(folder, "Net"), torch.device("cpu"))
    origin = processes._origin
    processes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(origin, 0)
    with pytest.raises(TargetError, match="no process could be forked for it"):
        processes.target(blueprint(folder, "Net"), torch.device("cpu"))


def test_what_a_data_factory_leaves_behind_dies_with_the_audit(folder):
    processes = Processes()
    processes.dataset("mine.py:daemon", folder, offline=True)
    daemon = int((folder / "daemon").read_text())
    os.kill(daemon, 0)
    processes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def test_all_of_it_dies_when_the_audit_is_killed(folder):
    program = f"""
import os, signal, sys
from pathlib import Path
from audit.isolation.host import Processes
processes = Processes()
processes.dataset("mine.py:daemon", Path({str(folder)!r}), offline=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run([sys.executable, "-c", program], cwd=ROOT, seconds=120)
    daemon = int((folder / "daemon").read_text())
    until = time.monotonic() + 10
    while time.monotonic() < until and Path(f"/proc/{daemon}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{daemon}").exists()


def test_a_dataset_is_told_in_printable_letters(processes, folder):
    assert processes.dataset("mine.py:lying", folder, offline=True).name == "dots [2J"


def test_weights_of_a_trainer_are_a_regular_file(processes, folder):
    source = processes.dataset("mine.py:data", folder, offline=True).source
    made = source.train("mine.py:endless", "small", device="cpu", retrain=False)
    assert file_sha256(made.path) is None


def test_no_file_of_the_audit_is_open_in_them(folder):
    (folder / "open.py").write_text(
        "import os\nfrom pathlib import Path\nfrom torch import nn\n"
        "def make():\n    files = [f'/proc/self/fd/{one}' for one in os.listdir('/proc/self/fd')]\n"
        "    raise ValueError(sorted({os.readlink(one).split(':')[0] for one in files if os.path.lexists(one)}))\n"
    )
    program = f"""
import sys, torch
from pathlib import Path
secret, pipe = open({str(folder / "mine.py")!r}), __import__("os").pipe()
from audit.artifacts.weights import file_sha256
from audit.errors import TargetError
from audit.isolation.host import Processes
from audit.target import Blueprint
processes = Processes()
named = Blueprint(name="x", root=Path({str(folder)!r}), classes=2, bounds=(0.0, 1.0), factory="open.py:make")
try:
    processes.target(named, torch.device("cpu"))
except TargetError as error:
    print(error)
processes.close()
"""
    done = run([sys.executable, "-c", program], cwd=ROOT, seconds=120)
    assert "mine.py" not in done.stdout
    assert "pipe" not in done.stdout
    assert "['/dev/null', 'socket']" in done.stdout.replace(str(folder), ""), done.stdout + done.stderr
