"""Where third-party code runs: in processes of its own on Linux, elsewhere in this one."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import AfterValidator, Field, ValidationError
from torch import Tensor

from audit import building
from audit.artifacts.weights import file_sha256
from audit.building import weights_of
from audit.compare.changes import printable
from audit.errors import DataError, DataMissing, PolicyError, TargetError, ThirdPartyFailed
from audit.isolation import code
from audit.isolation.caller import Caller, Door
from audit.isolation.code import Named, Sources
from audit.isolation.confine import missing
from audit.isolation.hosted import HostedTarget
from audit.isolation.serve import origin
from audit.isolation.source import HostedSource
from audit.isolation.wire import Document, Line, pair
from audit.loading import Dataset, Samples, load_dataset, samples_of
from audit.records import Record
from audit.target import Blueprint, TorchTarget
from audit.workers import forked

SECONDS = 600.0  # for one answer about a batch of images, or to load something
DATA_SECONDS = 3600.0  # a dataset factory may fetch its data
IN_THIS_PROCESS = (
    "no processes can be forked here: third-party code ran in the audit's own process, and what counts was said by the "
    "process that attacked"
)


class Host(Protocol):
    """Runs what a policy names."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know of how apart third-party code was kept."""
        ...

    def target(self, blueprint: Blueprint, device: torch.device) -> TorchTarget:
        """Build a target.

        Raises:
            IntegrityError: the weight file is missing, refused, or not the pinned one.
            TargetError: the factory returns no network, or the weights do not fit it.
        """
        ...

    def dataset(self, reference: str, root: Path, *, offline: bool) -> Dataset:
        """Call a dataset factory; as :func:`audit.loading.load_dataset`."""
        ...

    def check(self, functions: Sequence[Named], root: Path) -> None:
        """Import functions.

        Raises:
            PolicyError: one of them does not exist.
        """
        ...

    def sources_of(self, references: Sequence[str], networks: Sequence[Named], root: Path) -> Sources:
        """Return the files that define functions, and the networks of factories, and what those refer to."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class InThisProcess:
    """Runs everything in this process."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return that it does."""
        return (IN_THIS_PROCESS,)

    def target(self, blueprint: Blueprint, device: torch.device) -> TorchTarget:
        """Build a target here."""
        return building.build(blueprint, device)

    def dataset(self, reference: str, root: Path, *, offline: bool) -> Dataset:
        """Call a dataset factory here."""
        return load_dataset(reference, root, offline=offline)

    def check(self, functions: Sequence[Named], root: Path) -> None:
        """Import functions here."""
        code.check(functions, root)

    def sources_of(self, references: Sequence[str], networks: Sequence[Named], root: Path) -> Sources:
        """Find files by importing what they define."""
        return code.sources_of(references, networks, root)

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class Processes:
    """Runs everything in processes that stem from one forked before anything a policy names was loaded.

    That one runs nothing but the audit's own code, ever, so that what it forks starts without a trace of any other.
    Any process forked from the one that made this may ask as well.
    """

    def __init__(self) -> None:
        """Fork the process that all others stem from."""
        self._owner = os.getpid()
        self._wire, theirs = pair()
        self._origin = forked(partial(origin, theirs, self._wire))
        theirs.close()
        self._door = Door(self._wire, "third-party code", (PolicyError,))
        self._sources: list[Caller] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what third-party code keeps on this machine though it should not."""
        return tuple(f"this system does not let third-party code be kept from {one}" for one in missing())

    def target(self, blueprint: Blueprint, device: torch.device) -> TorchTarget:
        """Have a target built, its weights verified here; its digest is of what was seen here and of what was built."""
        weights = {name: Document(None, state) for name, state in weights_of(blueprint).items()}
        line = {
            "kind": "target",
            "blueprint": blueprint.model_dump(mode="json"),
            "device": device.type,
            "weights": list(weights),
        }
        seen = f"{_identity(blueprint)} {[one.digest for one in weights.values()]}"

        def build() -> tuple[str, Caller]:
            caller = self._door.open(SECONDS, f"target {blueprint.name}", (TargetError,))
            cores = {"cores": sorted(os.sched_getaffinity(0))}  # where one process of two waits, they share the caches
            with ExitStack() as files:
                opened = [files.enter_context(one.opened()) for one in weights.values()]
                built = caller.ask(line | cores, *opened).get("digest")
            return f"sha256:{hashlib.sha256(f'{seen} {built!r}'.encode()).hexdigest()}", caller

        return HostedTarget(blueprint, build, device)

    def dataset(self, reference: str, root: Path, *, offline: bool) -> Dataset:
        """Have a dataset factory called, which alone may use the network."""
        caller = self._door.open(DATA_SECONDS, f"dataset {reference}", (DataError, DataMissing, PolicyError))
        line = {"kind": "dataset", "reference": reference, "root": str(root), "offline": offline}
        try:
            said, tensors = caller.document(line)
            known = _Known.model_validate(said)
            audit, training = (_split(tensors, reference, name) for name in ("audit", "training"))
        except (ThirdPartyFailed, ValidationError) as error:
            raise DataError(str(error)) from error
        if audit is None or int(audit.labels.max()) >= known.classes:
            raise DataError(f"{reference}: its process gave no audit split, or labels beyond its classes")
        self._sources.append(caller)
        source = HostedSource(Door(caller.wire, f"dataset {reference}", (PolicyError,)))
        return Dataset(known.name, known.classes, known.digest, audit, training, None, source, known.files)

    def check(self, functions: Sequence[Named], root: Path) -> None:
        """Have functions imported."""
        self._about_code({"check": True, "functions": functions, "root": str(root)})

    def sources_of(self, references: Sequence[str], networks: Sequence[Named], root: Path) -> Sources:
        """Have files found by importing what they define."""
        line = {"check": False, "references": references, "functions": networks, "root": str(root)}
        found = _Found.model_validate(self._about_code(line))
        return Sources(found.files, found.notes)

    def close(self) -> None:
        """End all of them."""
        if os.getpid() != self._owner:
            return
        for one in self._sources:
            one.close()
        self._door.close()
        os.kill(self._origin, signal.SIGTERM)  # it ends all others first
        os.waitpid(self._origin, 0)

    def _about_code(self, line: Line) -> Any:
        caller = self._door.open(SECONDS)
        try:
            return caller.document({"kind": "code", **line})[0]
        finally:
            caller.close()


Text = Annotated[str, AfterValidator(printable)]


class _Known(Record):
    """What a process says of a dataset, tensors apart."""

    name: Text
    classes: Annotated[int, Field(ge=2, le=1_000_000)]
    digest: Text
    files: dict[Text, Text]


class _Found(Record):
    """What a process says of code."""

    files: tuple[str, ...]
    notes: tuple[Text, ...]


def _identity(blueprint: Blueprint | None) -> object:
    """Return what can be said of a blueprint's network here, wherever it lies: factory, its file, draws, defence."""
    if blueprint is None:
        return None
    module = blueprint.factory.rpartition(":")[0]
    file = blueprint.root / (module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
    defence = blueprint.defence.model_dump_json() if blueprint.defence is not None else None
    known = [blueprint.factory, file_sha256(file), blueprint.draws, blueprint.classes, defence]
    return [*known, _identity(blueprint.inner), _identity(blueprint.partner)]


def _split(tensors: dict[str, Tensor], reference: str, name: str) -> Samples | None:
    images = tensors.get(f"{name} images")
    return None if images is None else samples_of((images, tensors.get(f"{name} labels")), f"{reference}: {name} split")


def host() -> Host:
    """Return where third-party code runs on this system; nothing that a policy names may be loaded yet."""
    return Processes() if sys.platform == "linux" else InThisProcess()
