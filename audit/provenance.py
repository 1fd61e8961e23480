"""Where the numbers come from: commit, versions, device, digests, and the command that makes them again."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from audit import repository

PACKAGES = (
    "model-security-audit",
    "torch",
    "torchvision",
    "adversarial-robustness-toolbox",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "pytest",
    "pytest-html",
    "bandit",
    "semgrep",
    "detect-secrets",
    "pip-audit",
)


def gather(root: Path, device: torch.device, command: str, started: datetime, run: str) -> dict[str, Any]:
    """Return provenance as plain data: no absolute path, no host name, no environment variable.

    ``run`` is the name of the run, by which whoever started it knows its report.
    """
    return {
        "commit": repository.commit(root),
        "dirty": repository.is_dirty(root),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "run": run,
        "device": _device(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return f"{device.type} {capability} with {torch.get_num_threads()} threads".replace("  ", " ")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
