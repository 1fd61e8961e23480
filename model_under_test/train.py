"""Get the weights of a recipe: from the cache when nothing changed, else by training, resumed where a run stopped.

``python -m model_under_test.train RECIPE --dataset NAME`` does it by hand; the audit calls :func:`obtain`.
"""

from __future__ import annotations

import argparse
import ast
import getpass
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from model_under_test import artifact, data, network, recipes, training
from model_under_test.data import Dataset, Split, cache_root
from model_under_test.errors import IntegrityError, SubjectError
from model_under_test.recipes import Recipe
from model_under_test.training import Checkpoint

RELEASE = Path(__file__).parent / "release"
_CODE = (network, training)


@dataclass(frozen=True, slots=True)
class Trained:
    """A weight file, its SHA-256, and what the reader of a report should know about how it came to be."""

    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


def obtain(
    recipe: str,
    dataset: Dataset,
    *,
    device: str = "auto",
    retrain: bool = False,
    examples: tuple[Tensor, Tensor] | None = None,
    seed: int | None = None,
) -> Trained:
    """Return the weights of a recipe, trained only when the cache has none for exactly this content address.

    Args:
        recipe: a name of ``recipes.names()``.
        dataset: as loaded by :mod:`model_under_test.data`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        retrain: train even if the cache has the weights.
        examples: images (N, C, H, W) and labels (N,) to train on instead of the training split: a poisoned copy, say.
        seed: instead of the recipe's.

    Raises:
        RecipeError: no such recipe for this dataset.
    """
    plan = recipes.find(recipe, dataset.name)
    if seed is not None:
        plan = replace(plan, seed=seed)
    if examples is not None:
        dataset = data.with_training(dataset, Split(*examples))
    chosen = training.device_for(device)
    address = content_address(plan, dataset, chosen)
    folder = cache_root() / "weights" / f"{plan.dataset}-{plan.name}-{address[:16]}"
    with _alone(folder):  # whoever wants the same weights meanwhile waits, and finds them in the cache
        return _obtain(plan, dataset, chosen, address, folder, retrain=retrain)


def training_digest(recipe: str, dataset: Dataset) -> str:
    """Return the SHA-256 of what decides the weights but for arithmetic and seed: recipe, data and code.

    Raises:
        RecipeError: no such recipe for this dataset.
    """
    plan = recipes.find(recipe, dataset.name).config()
    del plan["seed"]
    parts = {"recipe": plan, "data": dataset.digest, "code": code_digest()}
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"


def _obtain(
    plan: Recipe, dataset: Dataset, chosen: torch.device, address: str, folder: Path, *, retrain: bool
) -> Trained:
    path = folder / "weights.safetensors"
    notes: tuple[str, ...] = ()
    if path.is_file() and not retrain:
        try:
            pinned = artifact.read_manifest(path)["sha256"]
            artifact.load(path, pinned)
            return Trained(path, pinned)
        except IntegrityError as error:
            notes = (f"{_set_aside(path)}: set aside and trained again ({error})",)
    state, seconds, started = _train(plan, dataset, chosen, folder / "checkpoint")
    manifest = artifact.save(
        path,
        {name.removeprefix("model."): t for name, t in state.tensors.items() if name.startswith("model.")},
        _manifest(plan, dataset, chosen, address, state) | {"run": _run(started, seconds)},
    )
    (folder / "checkpoint").unlink(missing_ok=True)
    _log(manifest)
    return Trained(path, manifest["sha256"], notes)


def content_address(recipe: Recipe, dataset: Dataset, device: torch.device) -> str:
    """Return the SHA-256 of everything that determines the weights: recipe, data, code, versions, kind of device."""
    parts = {
        "recipe": recipe.config(),
        "data": dataset.digest,
        "code": code_digest(),
        "versions": _versions(),
        "device": _arithmetic(device),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """Return the SHA-256 of the code that shapes the weights; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for module in _CODE:
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        digest.update(ast.unparse(tree).encode())
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder of the cache while the span lasts; a process that dies lets go of it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _train(recipe: Recipe, dataset: Dataset, device: torch.device, path: Path) -> tuple[Checkpoint, float, str]:
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    state = training.fit(
        recipe, dataset, device, _read_checkpoint(path), lambda reached: _write_checkpoint(path, reached)
    )
    return state, time.monotonic() - begun, started


def _write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Save where a run stands in one atomic file: SHA-256 in hexadecimal, a newline, safetensors."""
    metadata = {"epoch": str(state.epoch), "history": json.dumps(state.history)}
    content = dump_safetensors(state.tensors, metadata)
    artifact.write(path, artifact.sha256(content).encode() + b"\n" + content)


def _read_checkpoint(path: Path) -> Checkpoint:
    """Return where an interrupted run stands, or a fresh start where there is none or it is damaged."""
    if not path.is_file():
        return Checkpoint()
    digest, _, content = path.read_bytes().partition(b"\n")
    if artifact.sha256(content).encode() != digest:
        _set_aside(path)
        return Checkpoint()
    metadata = _metadata(content)
    return Checkpoint(int(metadata["epoch"]), parse_safetensors(content), json.loads(metadata["history"]))


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    path.rename(aside)
    return aside


def _manifest(
    recipe: Recipe, dataset: Dataset, device: torch.device, address: str, state: Checkpoint
) -> dict[str, Any]:
    return {
        "recipe": recipe.config(),
        "summary": recipe.summary,
        "dataset": dataset.name,
        "data_digest": dataset.digest,
        "seed": recipe.seed,
        "address": f"sha256:{address}",
        "code_digest": code_digest(),
        "versions": _versions(),
        "device": _arithmetic(device),
        "parameters": sum(t.numel() for name, t in state.tensors.items() if name.startswith("model.")),
        "metrics": state.history[-1],
        "history": state.history,
    }


def _versions() -> dict[str, str]:
    return {"python": ".".join(platform.python_version_tuple()[:2]), "torch": torch.__version__}


def _arithmetic(device: torch.device) -> dict[str, str]:
    return {"type": device.type, "precision": "bfloat16 autocast" if training.has_bfloat16(device) else "float32"}


def _run(started: str, seconds: float) -> dict[str, Any]:
    return {
        "actor": _actor(),
        "commit": _commit(),
        "started": started,
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
    }


def _actor() -> str:
    """Name the CI job, or the local user."""
    if "GITHUB_RUN_ID" in os.environ:
        return f"github:{os.environ.get('GITHUB_REPOSITORY')}/{os.environ['GITHUB_RUN_ID']}"
    if os.environ.get("CI"):
        return "ci"
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need not have a name
        return "local:unnamed"


def _commit() -> str | None:
    """Read the commit from the .git folder; None outside a plain checkout."""
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        return (git / head.removeprefix("ref: ")).read_text(encoding="ascii").strip() if ":" in head else head
    except OSError:
        return None


def _log(manifest: dict[str, Any]) -> None:
    """Append one line for this run to the training log."""
    line = {name: manifest[name] for name in ("run", "recipe", "address", "sha256", "data_digest", "metrics")}
    with (cache_root() / "runs.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line, allow_nan=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Train one recipe from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m model_under_test.train", description=__doc__)
    parser.add_argument("recipe", choices=recipes.names())
    parser.add_argument("--dataset", choices=("mnist", "digits"), required=True)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--retrain", action="store_true", help="train even if the cache has the weights")
    parser.add_argument("--release", action="store_true", help="also copy weights and manifest to the release folder")
    options = parser.parse_args(arguments)
    try:
        dataset = data.load(options.dataset)
        trained = obtain(options.recipe, dataset, device=options.device, retrain=options.retrain)
    except SubjectError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 4
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the next run goes on after the last finished epoch\n")
        return 2
    for note in trained.notes:
        sys.stderr.write(f"{note}\n")
    path = release(trained, options.dataset, options.recipe) if options.release else trained.path
    sys.stdout.write(f"{path}\nsha256 {trained.sha256}\n")
    return 0


def release(trained: Trained, dataset: str, recipe: str, folder: Path | None = None) -> Path:
    """Copy trained weights and their manifest into the dataset's release folder, under a speaking name.

    A folder holds one network, for that is what is signed and served.
    """
    folder = folder or (RELEASE if dataset == "mnist" else RELEASE.with_name(f"{RELEASE.name}_{dataset}"))
    path = folder / f"{dataset}-{recipe}.safetensors"
    manifest = artifact.read_manifest(trained.path) | {"file": path.name}
    artifact.save(path, artifact.load(trained.path, trained.sha256), manifest)
    return path


if __name__ == "__main__":
    sys.exit(main())
