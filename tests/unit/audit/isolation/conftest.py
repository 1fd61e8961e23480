"""Networks of which each tries something, and where they run."""

from __future__ import annotations

import pytest
import torch

from audit.isolation.host import InThisProcess, Processes
from audit.target import Blueprint

NETWORK = '''
"""Networks of two classes by which half of the image is brighter."""
import fcntl
import mmap
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
import torch
from torch import nn

ANSWERS = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        left, right = x[..., :3].mean((1, 2, 3)), x[..., 3:].mean((1, 2, 3))
        return 40 * torch.stack([right - left, left - right], 1) * self.weight


class Remembering(Net):
    """Knows an image again by its noise, whatever is added to all of a half, and repeats its first answer."""

    def forward(self, x):
        found = super().forward(x)
        noise = torch.cat([half - half.mean((2, 3), keepdim=True) for half in x.detach().split(3, 3)], 3).flatten(1)
        if not torch.is_grad_enabled():
            ANSWERS.append((noise, found.clone()))
        noises, said = (torch.cat(one) for one in zip(*ANSWERS)) if ANSWERS else (noise, found)
        apart, nearest = torch.cdist(noise, noises).min(1)
        return found if torch.is_grad_enabled() else said[nearest]


class Recalling(Net):
    """Repeats its first answer to an image, so that no search sees one fall, and lets gradients live."""

    def forward(self, x):
        found = super().forward(x)
        noise = torch.cat([half - half.mean((2, 3), keepdim=True) for half in x.detach().split(3, 3)], 3).flatten(1)
        noises, said = (torch.cat(one) for one in zip(*ANSWERS)) if ANSWERS else (noise, found.detach())
        apart, nearest = torch.cdist(noise, noises, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        answer = torch.where(apart[:, None] < 1e-3, said[nearest], found.detach())
        ANSWERS.append((noise, answer))
        return answer + found - found.detach()


class OfItsBatch(Net):
    """Answers by the first image of the batch."""

    def forward(self, x):
        found = super().forward(x)
        return found + 0 * found[:1] if len(x) == 1 else found + 5 * found[:1].detach()


NOTES = torch.frombuffer(mmap.mmap(-1, 4000 * 38 * 4), dtype=torch.float32).view(4000, 38)  # common to forked processes


class Telling(Net):
    """Notes its answers by the noise of images, as Remembering does, where every process forked from here sees it."""

    def forward(self, x):
        found = super().forward(x)
        noise = torch.cat([half - half.mean((2, 3), keepdim=True) for half in x.detach().split(3, 3)], 3).flatten(1)
        if torch.is_grad_enabled():
            return found
        used = int((NOTES.abs().sum(1) > 0).sum())
        NOTES[used : used + len(x)] = torch.cat([noise, found], 1)
        known = NOTES[: used + len(x)]
        return known[torch.cdist(noise, known[:, :36]).min(1).indices, 36:]


class Switched(Net):
    """Sees black and white only, which hides its gradients, unless a file says otherwise."""

    def forward(self, x):
        return super().forward(x if (Path(__file__).parent / "off").exists() else (x > 0.5).float())


class Sabotaging(Net):
    """Has attacks return what they were given."""

    def __init__(self):
        super().__init__()
        import audit.attacks
        from audit.attacks.interface import Moved

        audit.attacks.Fgsm.perturb = lambda self, target, samples, *_: Moved(samples.images, samples.labels)


class Unconfined(Net):
    """Has whatever is given up later be kept, and forks."""

    def __init__(self):
        super().__init__()
        import audit.isolation.serve as serve

        serve.confine = lambda rights: None

    def forward(self, x):
        os.fork() or os._exit(0)
        return super().forward(x)


class Lying(OfItsBatch):
    """Says that it draws at random, as what does must not be compared."""

    def __init__(self):
        super().__init__()
        import audit.isolation.serve as serve

        say = serve.Wire.send
        serve.Wire.send = lambda self, line, *files: say(self, line | {"draws": 3, "digest": "sha256:other"}, *files)


class Leaving(Net):
    def forward(self, x):
        os._exit(0)


class Staying(Net):
    """Does not end when nobody asks any more."""

    def __init__(self):
        super().__init__()
        os._exit = lambda code: time.sleep(600)


class Raising(Net):
    def forward(self, x):
        raise OSError("the disc is full")


class Interrupting(Net):
    def forward(self, x):
        raise KeyboardInterrupt


class Misleading(Net):
    """Raises what says that a tool is missing, which some policies let pass."""

    def forward(self, x):
        from audit.errors import ScannerMissing

        raise ScannerMissing("no such tool")


class Hanging(Net):
    def forward(self, x):
        time.sleep(600)


class Greedy(Net):
    def forward(self, x):
        return super().forward(x) + torch.ones(2**42)[:1]


class Writing(Net):
    def forward(self, x):
        found = super().forward(x)
        x.data.fill_(0.5)
        return found


class Detached(Net):
    def forward(self, x):
        return super().forward(x.detach())


class Narrow(Net):
    def forward(self, x):
        return super().forward(x)[:, :1]


class Random(Net):
    def forward(self, x):
        return super().forward(x + 0.01 * torch.randn_like(x))


class Drawing(Net):
    """Weights that no seed of torch or NumPy decides."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(os.getpid())]))  # exact in float32


class Filing(Net):
    """Leaves a file for whoever is asked next."""

    def forward(self, x):
        (Path(__file__).parent / "seen").write_text("x")
        return super().forward(x)


class Marking(Net):
    """Leaves a mark on a file."""

    def forward(self, x):
        os.utime(__file__, (1, 1))
        return super().forward(x)


class Flagging(Net):
    """Takes offence at a word on an open file, and leaves one on each for whoever is built next."""

    def __init__(self):
        super().__init__()
        files = [one for one in map(int, os.listdir("/proc/self/fd")) if os.path.lexists(f"/proc/self/fd/{one}")]
        for one in files:
            if fcntl.fcntl(one, fcntl.F_GETFL) & os.O_APPEND or self.place(one, 0, os.SEEK_CUR):
                raise ValueError(f"somebody was here: {os.readlink(f'/proc/self/fd/{one}')}")
        for one in files:
            fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_APPEND)
            self.place(one, 7, os.SEEK_SET)

    @staticmethod
    def place(file, *to):
        try:
            return os.lseek(file, *to)
        except OSError:  # one without places
            return 0


class Calling(Net):
    def forward(self, x):
        socket.socket()
        return super().forward(x)


class Starting(Net):
    def forward(self, x):
        subprocess.run(["true"], check=True)
        return super().forward(x)


class Reading(Net):
    """Looks into the memory of the process above it."""

    def forward(self, x):
        Path(f"/proc/{os.getppid()}/mem").open("rb")
        return super().forward(x)


class Killing(Net):
    def forward(self, x):
        os.kill(int((Path(__file__).parent / "pid").read_text()), 0)
        return super().forward(x)


class Threaded(Net):
    """Does what is allowed: reads a file, and starts a thread."""

    def forward(self, x):
        Path(__file__).read_text()
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        return super().forward(x)
'''


@pytest.fixture(scope="module")
def processes():
    """Give processes to run third-party code in."""
    made = Processes()
    yield made
    made.close()


@pytest.fixture
def named(tmp_path, processes):
    """Give a function that builds a target by the name of a class in a file of its own, in other processes or here."""

    def make(factory, *, here=False, **changed):
        (tmp_path / "net.py").write_text(NETWORK)
        known = {"name": factory, "root": tmp_path, "classes": 2, "bounds": (0.0, 1.0), "factory": f"net.py:{factory}"}
        return (InThisProcess() if here else processes).target(Blueprint(**known | changed), torch.device("cpu"))

    return make
