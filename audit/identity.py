"""What makes a network the one it is: a digest of its code, its plain attributes, its parameters and buffers."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
PYTORCH = str(Path(torch.__file__).parent) + os.sep


def parameters_digest(network: nn.Module) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def network_digest(factory: str, make: Callable[..., object], network: nn.Module, draws: int) -> str:
    """Return the SHA-256 of what decides the network's answers, as far as that can be read off.

    That is the factory's name; the sources that define it and the network's modules, and the sources of one's own that
    those refer to; plain attributes of the modules; parameters and buffers. Files that the code reads, and libraries,
    are not in it; a stored result is therefore believed only while the network still gives the same logits.
    """
    digest = hashlib.sha256(f"{factory} {draws}".encode())
    made = make if inspect.isroutine(make) or inspect.isclass(make) else type(make)
    for source in sorted(sources({*_modules(made), *modules_of(network)})[0]):
        digest.update(Path(source).read_bytes())
    for name, module in network.named_modules():
        plain = {key: one for key, one in vars(module).items() if isinstance(one, bool | int | float | str | tuple)}
        digest.update(repr((name, type(module).__qualname__, sorted(plain.items()))).encode())
    digest.update(parameters_digest(network).encode())
    return f"sha256:{digest.hexdigest()}"


def modules_of(network: nn.Module) -> set[ModuleType]:
    """Return the modules that define a network's layers."""
    return {one for layer in network.modules() for one in _modules(type(layer))}


def sources(modules: Iterable[ModuleType]) -> tuple[set[str], set[str]]:
    """Return the source files of modules, but for PyTorch's, and of what they refer to that is not installed.

    Also those files of theirs that are no Python source, compiled modules for example.
    """
    found: set[str] = set()
    compiled: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        source = getattr(module, "__file__", None)
        if source is None or source in found or source.startswith(PYTORCH):
            continue
        if not source.endswith(".py"):
            compiled |= set() if source.startswith(INSTALLED) else {source}
            continue
        found.add(source)
        if source.startswith(INSTALLED):
            continue
        for one in list(vars(module).values()):
            other = one if inspect.ismodule(one) else sys.modules.get(getattr(one, "__module__", None) or "")
            if other is not None and not (getattr(other, "__file__", None) or "").startswith(INSTALLED):
                waiting.append(other)
    return found, compiled


def _modules(one: object) -> set[ModuleType]:
    module = inspect.getmodule(one)
    return set() if module is None else {module}
