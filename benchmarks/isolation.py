"""What it costs that a network is in a process of its own: attacks on the released digits model, here and there.

    python -m benchmarks.isolation [--rounds 8]

Prints a Markdown table. As many blocks of a hundred images as there are cores are attacked side by side, as in an
audit, starts of processes included. Both ways attack the same images in turn, round by round; the median of the rounds'
ratios counts, since the clock of a shared machine tells little. What comes out must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch

from audit.attacks import Attack, Fgsm, Pgd, Square
from audit.isolation.host import InThisProcess, Processes
from audit.loading import Samples
from audit.records import Knowledge, ThreatModel
from audit.target import Blueprint, TorchTarget, known
from audit.workers import cores, settle

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "model_under_test/release_digits/digits-hardened.safetensors"
THREAT = ThreatModel(goal="any wrong class", knowledge=Knowledge.WHITE_BOX, eps=0.15)
ATTACKS: dict[str, Attack] = {
    "FGSM": Fgsm(),
    "PGD-40": Pgd(steps=40, step_size=0.01),
    "Square, 200 queries": Square(queries=200),
}


def attacked(target: TorchTarget, attack: Attack, blocks: list[Samples]) -> tuple[float, list[float]]:
    """Attack each block in a forked process, side by side, as audits do; returns seconds, and the sums of pixels."""
    begun, running = time.perf_counter(), []
    for core, block in zip(sorted(os.sched_getaffinity(0)), blocks, strict=False):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, {core})
            target.forget()
            found = attack.perturb(known(target, attack.knowledge), block, THREAT, torch.Generator().manual_seed(1))
            os.write(writer, repr(float(found.images.double().sum())).encode())
            os._exit(0)
        os.close(writer)
        running.append((child, reader))
    sums = []
    for child, reader in running:
        with os.fdopen(reader) as end:
            sums.append(float(end.read()))
        os.waitpid(child, 0)
    return time.perf_counter() - begun, sums


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=8, help="how often each attack runs both ways (default 8)")
    rounds = parser.parse_args().rounds
    processes = Processes()
    settle()
    samples = processes.dataset("model_under_test.data:digits", ROOT, offline=True).audit
    blocks = [samples.at(slice(100 * place, 100 * place + 100)) for place in range(min(cores(), 8))]
    named = Blueprint(
        name="digits",
        root=ROOT,
        classes=10,
        bounds=(0.0, 1.0),
        factory="model_under_test.network:build",
        weights=WEIGHTS,
    )
    device = torch.device("cpu")
    here, there = InThisProcess().target(named, device), processes.target(named, device)
    lines = ["| attack | here, s | in a process of its own, s | ratio by the clock |", "|---|---|---|---|"]
    for name, attack in ATTACKS.items():
        ratios, seconds = list[float](), (list[float](), list[float]())
        for turn in range(rounds):
            pair = (here, there) if turn % 2 == 0 else (there, here)
            took = {id(one): attacked(one, attack, blocks) for one in pair}
            mine, other = took[id(here)], took[id(there)]
            if mine[1] != other[1]:
                sys.exit(f"{name}: other images came out")
            ratios.append(other[0] / mine[0])
            seconds[0].append(mine[0])
            seconds[1].append(other[0])
        medians = [statistics.median(one) for one in seconds]
        lines.append(f"| {name} | {medians[0]:.3f} | {medians[1]:.3f} | {statistics.median(ratios):.2f} |")
    processes.close()
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
