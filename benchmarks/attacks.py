"""Attack speed: images per second of ours and of other libraries, and the ratio to the float32 floor.

Timed is the measurement of robust accuracy: the attack, and the two predictions that count what stands before and after
it. The floor is the time of the attack's forward and input-gradient passes and of those predictions on the network as
its factory builds it, in float32, with nothing around them. Every library runs at its best batch size of those tried;
each figure is the best of three runs. Run it on a machine that does nothing else:

    python -m benchmarks.attacks                     # FGSM and PGD-40, hardened and baseline
    python -m benchmarks.attacks --autoattack 200    # also the ensemble, on so many images: minutes
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.arithmetic import has_bfloat16
from audit.artifacts.weights import load_weights
from audit.attacks import Attack, AutoAttack, Fgsm, Pgd
from audit.devices import choose_device
from audit.loading import Samples
from audit.local import wrap_network
from audit.measure import Laboratory
from audit.records import Knowledge, ThreatModel
from audit.store import Store
from model_under_test import data, train
from model_under_test.network import build

EPS, STEPS, STEP = 0.3, 40, 0.01
CPU_BATCHES, GPU_BATCHES = (50, 100, 250), (250, 1000)
REPEATS = 3
Run = Callable[[Tensor, Tensor], Tensor]  # images and labels in, moved images out


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    subject: str
    attack: str
    library: str
    batch: str
    seconds: float
    images: int
    standing: int
    floor: float

    def text(self) -> str:
        """Return the line as Markdown."""
        speed, ratio = self.images / self.seconds, self.floor / self.seconds
        return (
            f"| {self.subject} | {self.attack} | {self.library} | {self.batch} | {speed:.3g} | {ratio:.3g} "
            f"| {self.standing} of {self.images} |"
        )


class Bench:
    """One network, some images, and everybody's attacks on them."""

    def __init__(self, subject: str, weights: Path, samples: Samples, device: torch.device) -> None:
        """Load the weights twice: as built, for the other libraries and the floor, and as our target."""
        self.subject, self.samples, self.device = subject, samples, device
        self.batches = CPU_BATCHES if device.type == "cpu" else GPU_BATCHES
        self.network, own = build(), build()
        for network in (self.network, own):
            network.load_state_dict(load_weights(weights, None))
        self.network.to(device).eval()
        self.target = wrap_network(subject, own, classes=10, bounds=(0.0, 1.0), device=device)

    def floor(self, passes: int, batches: tuple[int, ...] | None = None) -> float:
        """Return the seconds that so many input gradients of every image take, at the best batch size."""
        frozen = build().to(self.device).eval().requires_grad_(False)
        frozen.load_state_dict(self.network.state_dict())

        def run(images: Tensor, labels: Tensor) -> Tensor:
            moved = images
            for _ in range(passes):
                moved = moved.detach().requires_grad_()
                loss = functional.cross_entropy(frozen(moved), labels, reduction="sum")
                torch.autograd.grad(loss, moved)
            return moved.detach()

        return self.best(run, batches)[0]

    def best(self, run: Run, batches: tuple[int, ...] | None = None) -> tuple[float, str, int]:
        """Return the seconds, the batch size and the number standing of a library's best batch size."""
        tried = [(*self._timed(run, batch), batch) for batch in batches or self.batches]
        seconds, standing, batch = min(tried)
        return seconds, str(batch), standing

    def ours(self, attack: Attack, repeats: int = REPEATS) -> tuple[float, str, int]:
        """Return the same for the whole measurement of ours: attack, projection, re-prediction in float32, storing."""
        budget = ThreatModel(goal="any wrong class", knowledge=Knowledge.WHITE_BOX, eps=EPS)
        best, standing = float("inf"), 0
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                laboratory = Laboratory("benchmark", Store(Path(folder), b"secret"), lambda done, total: None)
                begun = time.perf_counter()
                outcome = laboratory.attacked(self.target, self.samples, attack, budget, seed=0)
                best = min(best, time.perf_counter() - begun)
                standing = int(outcome.standing.sum())
        return best, "own", standing

    def row(self, attack: str, library: str, found: tuple[float, str, int], floor: float) -> Row:
        """Return a line of the table."""
        seconds, batch, standing = found
        return Row(self.subject, attack, library, batch, seconds, len(self.samples), standing, floor)

    def _timed(self, run: Run, batch: int) -> tuple[float, int]:
        images, labels = self.samples.images.to(self.device), self.samples.labels.to(self.device)
        run(images[:batch], labels[:batch])  # warm up
        best, standing = float("inf"), 0
        for _ in range(REPEATS):
            begun = time.perf_counter()
            standing = 0
            for x, y in zip(images.split(batch), labels.split(batch), strict=True):
                standing += self.count(x, run(x, y), y)
            best = min(best, time.perf_counter() - begun)
        return best, standing

    def count(self, images: Tensor, moved: Tensor, labels: Tensor) -> int:
        """Return how many images are right before and after; asking for the number waits for a GPU to finish."""
        with torch.no_grad():
            right = (self.network(moved).argmax(1) == labels) & (self.network(images).argmax(1) == labels)
        return int(right.sum())


def art(network: nn.Module, device: torch.device, steps: int) -> Run:
    """Return ART's attack: FGSM for one step, else PGD."""
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    kind = "gpu" if device.type == "cuda" else "cpu"
    loss = nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(network, loss, (1, 28, 28), 10, clip_values=(0.0, 1.0), device_type=kind)
    if steps == 1:
        attack = FastGradientMethod(classifier, eps=EPS, batch_size=100_000)
    else:
        attack = ProjectedGradientDescentPyTorch(
            classifier, eps=EPS, eps_step=STEP, max_iter=steps, num_random_init=1, batch_size=100_000, verbose=False
        )
    return lambda x, y: torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(device)


def foolbox(network: nn.Module, device: torch.device, steps: int) -> Run:
    """Return foolbox' attack: FGSM for one step, else PGD."""
    from foolbox.attacks.fast_gradient_method import LinfFastGradientAttack
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(network, bounds=(0, 1), device=device)
    if steps == 1:
        one_step = LinfFastGradientAttack(random_start=False)
        return lambda x, y: one_step(model, x, y, epsilons=EPS)[1]
    attack = LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=steps, random_start=True)
    return lambda x, y: attack(model, x, y, epsilons=EPS)[1]


def torchattacks(network: nn.Module, device: torch.device, steps: int) -> Run:
    """Return torchattacks' attack: FGSM for one step, else PGD."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks as ta

    attack = ta.FGSM(network, eps=EPS) if steps == 1 else ta.PGD(network, eps=EPS, alpha=STEP, steps=steps)
    return lambda x, y: attack(x, y)


LIBRARIES = {"ART": art, "foolbox": foolbox, "torchattacks": torchattacks}


def pyautoattack(network: nn.Module, device: torch.device) -> Run:
    """Return the standard evaluation of the authors' own package."""
    from pyautoattack import AutoAttack as Theirs

    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    ensemble = Theirs(network, norm="Linf", eps=EPS, version="standard", seed=0, device=str(device))
    return lambda x, y: ensemble.run_standard_evaluation(x, y, batch_size=len(x))[0]


def torchattacks_ensemble(network: nn.Module, device: torch.device) -> Run:
    """Return torchattacks' own AutoAttack, which is another and weaker composition."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks as ta

    attack = ta.AutoAttack(network, eps=EPS, seed=0)
    return lambda x, y: attack(x, y)


def short_attacks(bench: Bench) -> list[Row]:
    """Time FGSM and PGD-40."""
    rows = []
    for name, steps, own in (("FGSM", 1, Fgsm()), (f"PGD-{STEPS}", STEPS, Pgd(steps=STEPS, step_size=STEP))):
        floor = bench.floor(steps)
        for library, make in LIBRARIES.items():
            rows.append(bench.row(name, library, bench.best(make(bench.network, bench.device, steps)), floor))
        rows.append(bench.row(name, "ours", bench.ours(own), floor))
    return rows


def ensembles(bench: Bench) -> list[Row]:
    """Time the ensemble once each: the floor there is that of 40 input gradients, for want of a fixed number."""
    floor = bench.floor(STEPS, (100,))
    rows = [bench.row("AutoAttack", "ours", bench.ours(AutoAttack(), repeats=1), floor)]
    batch = 100 if bench.device.type == "cpu" else 1000
    for library, make in (("pyautoattack", pyautoattack), ("torchattacks", torchattacks_ensemble)):
        run = make(bench.network, bench.device)
        begun, standing = time.perf_counter(), 0
        for x, y in zip(bench.samples.images.split(batch), bench.samples.labels.split(batch), strict=True):
            images, labels = x.to(bench.device), y.to(bench.device)
            standing += bench.count(images, run(images, labels), labels)
        rows.append(bench.row("AutoAttack", library, (time.perf_counter() - begun, str(batch), standing), floor))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="for FGSM and PGD; 0 leaves them out")
    parser.add_argument("--autoattack", type=int, default=0, metavar="N", help="also time the ensemble on N images")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device, dataset = choose_device(options.device), data.load("mnist")
    whole = Samples(dataset.audit.images, dataset.audit.labels)
    write = sys.stdout.write
    native = "yes" if has_bfloat16(device) else "no"
    write(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, native bfloat16: {native}\n\n")
    write("| model | attack | library | batch | images/s | x floor | standing |\n|---|---|---|---|---|---|---|\n")
    released = train.RELEASE / "mnist-hardened.safetensors"
    baseline = train.obtain("baseline", dataset, device=options.device).path
    for subject, weights in (("hardened", released), ("baseline", baseline)) if options.images else ():
        for row in short_attacks(Bench(subject, weights, whole.subset(options.images), device)):
            write(f"{row.text()}\n")
            sys.stdout.flush()
    if options.autoattack:
        for row in ensembles(Bench("hardened", released, whole.subset(options.autoattack), device)):
            write(f"{row.text()}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
