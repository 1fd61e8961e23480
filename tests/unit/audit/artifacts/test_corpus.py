"""The corpus: each file is refused for its own reason, no payload runs, and memory stays bounded."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from audit.artifacts.corpus import build
from audit.artifacts.weights import load_weights
from audit.errors import IntegrityError
from audit.process import run

ROOT = Path(__file__).parents[4]
SPECIMENS = {one.file: one for one in build(Path("marker"))}
MEMORY = """
import resource, sys, tempfile
from pathlib import Path
from audit.artifacts import torch_file
from audit.artifacts.corpus import build
from audit.artifacts.weights import load_weights
from audit.errors import IntegrityError
torch_file.run = None  # the child process has limits of its own
folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
for one in build(folder / "marker"):
    (folder / one.file).write_bytes(one.content)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(folder.iterdir()):
    try:
        load_weights(path, None)
    except (IntegrityError, TypeError):
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_the_corpus_is_broad():
    assert len(SPECIMENS) == len(build(Path("marker"))) >= 60
    assert sum(one.pickled is not None for one in SPECIMENS.values()) >= 50


def test_the_same_corpus_comes_out_each_time():
    assert [one.content for one in build(Path("marker"))] == [one.content for one in SPECIMENS.values()]


@pytest.fixture(scope="module")
def armed(tmp_path_factory):
    """Give the folder that every payload writes to, empty as long as none runs, and the specimens by name."""
    folder = tmp_path_factory.mktemp("payloads")
    return folder, {one.file: one for one in build(folder / "marker")}


@pytest.mark.parametrize("name", SPECIMENS)
def test_is_refused_for_the_right_reason_and_nothing_runs(tmp_path, armed, name):
    payloads, specimens = armed
    specimen, path = specimens[name], tmp_path / name
    path.write_bytes(specimen.content)
    with pytest.raises(IntegrityError, match=re.escape(name)) as refused:
        load_weights(path, None)
    assert re.search(specimen.refusal, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [path]
    assert list(payloads.iterdir()) == []


def test_reading_the_corpus_takes_little_memory(tmp_path):
    done = run([sys.executable, "-c", MEMORY, str(tmp_path)], cwd=ROOT, seconds=120)
    assert done.code == 0, done.tail
    assert int(done.stdout) < 128  # MiB, of which the largest file has 16
