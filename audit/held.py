"""Every tensor that a network can be seen to hold: parameters, buffers, and what its attributes lead to.

Followed are attributes of modules and objects, lists, tuples, sets and dictionaries, what functions closed over, bound
or have as defaults, and the attributes of module classes that are no part of PyTorch. Not followed are global variables
of Python files, and files: a network may read its store when it is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import TargetError

MOST_OBJECTS = 1_000_000  # looked at in one network
PLAIN = (type(None), bool, int, float, complex, str, type, ModuleType, torch.dtype, torch.device)


def held(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with at least two numbers, each once, with the way that leads to it.

    Arrays, bytes and lists of numbers are yielded as tensors; quantised and sparse ones as what they stand for.

    Raises:
        TargetError: the network leads to more than a million objects.
    """
    waiting: list[tuple[str, Any]] = [("", network)]
    seen: dict[int, Any] = {}  # the objects themselves, so that no id is used twice meanwhile
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, PLAIN) or id(one) in seen:
            continue
        if len(seen) == MOST_OBJECTS:
            raise TargetError(
                f"expected a network whose attributes lead to at most {MOST_OBJECTS:,} objects, got more; "
                "keep numbers in tensors, and what does not decide the answer out of the network"
            )
        seen[id(one)] = one
        numbers = _numbers(one)
        if numbers is None:
            waiting.extend((_joined(name, key), other) for key, other in _inside(one))
        elif numbers.numel() > 1:
            yield name or "network", numbers
        if isinstance(one, Tensor) and vars(one):
            waiting.append((name, vars(one)))


def _numbers(one: object) -> Tensor | None:
    """Return what an object holds as a dense tensor of numbers, None where it is no such thing."""
    if isinstance(one, Tensor):
        return _dense(one.detach())
    if isinstance(one, np.ndarray) and one.dtype.kind in "buif":
        return torch.from_numpy(one.astype(np.float32))
    if isinstance(one, bytes | bytearray | memoryview) and len(one):
        return torch.frombuffer(bytearray(one), dtype=torch.uint8)
    if isinstance(one, list | tuple) and one and all(isinstance(number, int | float) for number in one):
        return torch.tensor([float(number) for number in one])
    return None


def _dense(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _inside(one: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object leads to, with a name for each."""
    if isinstance(one, nn.Module):
        yield from _inside_module(one)
    elif isinstance(one, Mapping):
        yield from ((str(key), value) for key, value in one.items())
    elif isinstance(one, list | tuple | set | frozenset | deque):
        yield from ((str(place), value) for place, value in enumerate(one))
    elif isinstance(one, FunctionType):
        values = (one.__closure__ or (), one.__defaults__ or (), one.__kwdefaults__ or {}, vars(one))
        yield from ((one.__name__, value) for value in values)
    elif isinstance(one, CellType):
        yield from (("cell", value) for value in _content(one))
    elif isinstance(one, MethodType):
        yield from ((one.__name__, value) for value in (one.__self__, one.__func__))
    elif isinstance(one, partial):
        yield from (("partial", value) for value in (one.func, one.args, one.keywords))
    else:
        yield from getattr(one, "__dict__", {}).items()
        slots = (name for kind in type(one).__mro__ for name in _slots(kind))
        yield from ((name, getattr(one, name)) for name in slots if hasattr(one, name))


def _inside_module(module: nn.Module) -> Iterator[tuple[str, Any]]:
    own = vars(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        yield from own.get(kind, {}).items()
    yield from ((name, value) for name, value in own.items() if name not in ("_parameters", "_buffers", "_modules"))
    for ancestor in type(module).__mro__:
        if not ancestor.__module__.startswith(("torch.", "builtins")):
            yield from ((f"{ancestor.__name__}.{name}", value) for name, value in vars(ancestor).items())


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
