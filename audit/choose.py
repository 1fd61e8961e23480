"""Which policy, and with it which data: the one that is named, or with ``auto`` the first whose data are to be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audit.errors import DataError, DataMissing
from audit.isolation.host import Host
from audit.loading import Dataset
from audit.policy import PolicyFile, load_policy

AUTO = ("policies/mnist.yaml", "policies/digits.yaml")


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy, its name relative to the repository, its data, and why this one, in one line."""

    file: PolicyFile
    name: str
    dataset: Dataset
    reason: str


def choose(option: str, root: Path, host: Host, *, offline: bool) -> Choice:
    """Load the policy and its data.

    Args:
        option: a path, taken strictly, or ``auto``.
        root: the repository; paths are relative to it.
        host: calls the dataset factory.
        offline: fetch nothing.

    Raises:
        PolicyError: the policy is wrong.
        DataError: the data are damaged, or those of a named policy are missing. Damage never leads to a fallback.
    """
    if option != "auto":
        path = (root / option).resolve()
        name = str(path.relative_to(root.resolve())) if path.is_relative_to(root.resolve()) else path.name
        file = load_policy(root / option, root)
        try:
            return Choice(file, name, _data(file, root, host, offline=offline), f"{name}, as named")
        except DataMissing as error:
            raise DataError(f"{name}: {error}") from error
    passed_over: list[str] = []
    for name in AUTO:
        file = load_policy(root / name, root)
        try:
            dataset = _data(file, root, host, offline=offline)
        except DataMissing as error:
            passed_over.append(f"{name} passed over: {error}")
            continue
        because = "; ".join(passed_over) or f"{dataset.name} was found"
        return Choice(file, name, dataset, f"{name}, chosen by auto ({because})")
    raise DataError(f"--policy auto: no policy has its data here: {'; '.join(passed_over)}")


def _data(file: PolicyFile, root: Path, host: Host, *, offline: bool) -> Dataset:
    return host.dataset(file.policy.dataset_factory, root, offline=offline)
