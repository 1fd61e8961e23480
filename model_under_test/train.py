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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_under_test import artifact, data, kept, network, recipes, training
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
    with kept.alone(folder):  # whoever wants the same weights meanwhile waits, and finds them in the cache
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
            return Trained(path, kept.verified(path, plan, address))
        except IntegrityError as error:
            notes = (f"{kept.set_aside(path)}: set aside and trained again ({error})",)
    state, seconds, started = _train(plan, dataset, chosen, folder / "checkpoint", address)
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


def _train(
    recipe: Recipe, dataset: Dataset, device: torch.device, path: Path, address: str
) -> tuple[Checkpoint, float, str]:
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    reached = kept.read_checkpoint(path, address)
    state = training.fit(recipe, dataset, device, reached, lambda now: kept.write_checkpoint(path, now, address))
    return state, time.monotonic() - begun, started


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
