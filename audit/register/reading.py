"""YAML -> Register."""

from __future__ import annotations

from pathlib import Path

from audit.register.records import Register
from audit.yaml_files import read_yaml


def read_register(path: Path) -> Register:
    """Read the register.

    Raises:
        PolicyError: it is malformed.
    """
    return read_yaml(path, Register)[0]
