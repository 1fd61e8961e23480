"""The child that loads a state dict has given up the network, other processes, and files outside its folder."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from audit.artifacts import unpack
from audit.process import run

PROGRAM = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("unpack", sys.argv[1])
unpack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unpack)
unpack.{guard}
try:
    {attempt}
except Exception as error:
    print(type(error).__name__, error)
else:
    print("done")
"""


def attempted(tmp_path, guard, attempt):
    program = PROGRAM.format(guard=guard, attempt=attempt)
    done = run([sys.executable, "-I", "-c", program, str(Path(unpack.__file__))], cwd=tmp_path, seconds=60)
    return done.stdout.strip() or done.tail


@pytest.mark.parametrize(
    ("attempt", "event"),
    [
        pytest.param("import socket; socket.socket()", "socket.__new__", id="a socket"),
        pytest.param("import os; os.system('true')", "os.system", id="a shell"),
        pytest.param("import subprocess; subprocess.run(['true'])", "subprocess.Popen", id="a process"),
        pytest.param("import os; os.fork()", "os.fork", id="a fork"),
        pytest.param("open('../outside', 'w')", "open", id="a file outside"),
        pytest.param(
            "import os; os.open('../outside', os.O_CREAT | os.O_WRONLY)", "open", id="a file outside, by flags"
        ),
        pytest.param("import os; os.mkdir('../outside')", "os.mkdir", id="a folder outside"),
        pytest.param("import os; os.rename('inside', '../outside')", "os.rename", id="a move outside"),
        pytest.param("import os; os.remove('../kept')", "os.remove", id="a removal outside"),
        pytest.param("import os; os.symlink('/', 'link')", "os.symlink", id="a link"),
    ],
)
def test_what_a_load_does_not_need_ends_it(tmp_path, attempt, event):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "kept").touch()
    assert attempted(folder, "forbid(Path('.'))", attempt) == f"PermissionError the file asked for {event}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "kept"]


def test_a_file_inside_its_folder_may_be_written(tmp_path):
    assert attempted(tmp_path, "forbid(Path('.'))", "open('inside', 'w')") == "done"


def test_limits_hold_once_they_are_set(tmp_path):
    assert attempted(tmp_path, "confine(10)", "bytearray(2**40)").startswith("MemoryError")
    assert attempted(tmp_path, "confine(10)", "open('large', 'wb').write(bytes(2**26))").startswith("OSError")
    assert attempted(tmp_path, "confine(10)", "kept = [open('x', 'w') for _ in range(100)]").startswith("OSError")


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_no_network_is_in_reach(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempt = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert attempted(tmp_path, "forbid(Path('.'))", attempt).startswith("PermissionError")
        if attempted(tmp_path, "confine(10)", "import os; os.listdir('/proc/self')") == "done":
            said = attempted(tmp_path, "confine(10)", attempt)
            if said == "done":
                pytest.skip("this system lets nobody leave its network")
            assert said.startswith("OSError")


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        pytest.param([1, 2], "not a dictionary of tensors", id="a list"),
        pytest.param({"w": torch.zeros(1).expand(10**5, 10**5)}, "claim 40,000,000,000 bytes", id="zero strides"),
    ],
)
def test_the_child_says_why_in_one_line(tmp_path, thing, message):
    torch.save(thing, tmp_path / "w.pt")
    done = run(
        [sys.executable, "-I", str(Path(unpack.__file__)), str(tmp_path / "w.pt"), str(tmp_path / "out")],
        cwd=tmp_path,
        seconds=120,
        environment={"PATH": os.environ["PATH"]},  # without what measures coverage, which would remove files at its end
    )
    assert done.code == 1
    assert message in done.tail
    assert not (tmp_path / "out").exists()
