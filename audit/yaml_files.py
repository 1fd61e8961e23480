"""YAML in, validated record out; every error is one line that names file, YAML path, expectation and what came."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from audit.errors import PolicyError

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


Read = Callable[[Path], bytes]


def read_yaml(path: Path, model: type[Model], read: Read = Path.read_bytes) -> tuple[Model, bytes]:
    """Read and validate one YAML file; returns the record, and the bytes it was made from.

    Args:
        path: the file.
        model: what it must be.
        read: returns the bytes of a file, those on disk by default.

    Raises:
        PolicyError: the file is missing, no YAML, or not valid.
    """
    data, content = read_raw(path, read)
    return validated(data, model, path), content


def validated(data: Any, model: type[Model], path: Path) -> Model:
    """Return the data of a file as a record.

    Raises:
        PolicyError: they are not valid.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise PolicyError(f"{path}: {explain(error, data)}") from error


def read_raw(path: Path, read: Read = Path.read_bytes) -> tuple[Any, bytes]:
    """Read one YAML file without validating it; returns the data and the bytes.

    Raises:
        PolicyError: the file is missing, or no YAML.
    """
    try:
        content = read(path)
        return _load(content), content
    except OSError as error:
        raise PolicyError(f"{path}: expected a YAML file, got {error.strerror}; check the path") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # PyYAML raises them all
        raise PolicyError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from error


def explain(error: ValidationError, data: Any) -> str:
    """Return the first problem of a validation error in one line: YAML path, expectation, what came."""
    problems = error.errors(include_url=False)
    first = problems[0]
    # a rule about the whole file names the place itself
    location, message, given = first["loc"], first["msg"].removeprefix("Value error, "), first["input"]
    if first["type"] == "union_tag_not_found":
        missing = first.get("ctx", {}).get("discriminator", "").strip("'")
        location, message = (*location, missing), f"Field required, to tell what it is (got {_short(given)})"
    where = "" if not location and first["type"] == "value_error" else f"{yaml_path(location, data)}: "
    got = "" if "(got" in message or first["type"] == "missing" else f" (got {_short(given)})"
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{where}{message}{got}{more}"


def yaml_path(location: tuple[int | str, ...], data: Any) -> str:
    """Write a pydantic location as a YAML path, leaving out the union tags that are not in the file."""
    text = ""
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(part, int) and isinstance(data, list):
            text += f"[{part}]"
            data = data[part] if part < len(data) else None
        elif isinstance(data, dict) and part in data:
            text += f".{part}"
            data = data[part]
        elif last and isinstance(data, dict):
            text += f".{part}"
    return text.lstrip(".") or "(top level)"


def _load(content: bytes) -> Any:
    loader = _Loader(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
