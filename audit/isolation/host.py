"""Where third-party code runs: in processes of its own on Linux, elsewhere in this one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from audit import building
from audit.building import weights_of
from audit.errors import DataError, ThirdPartyFailed
from audit.isolation import code
from audit.isolation.caller import Caller, Door
from audit.isolation.code import Named, Sources
from audit.isolation.confine import missing
from audit.isolation.hosted import SECONDS, Built, HostedTarget
from audit.isolation.serve import origin
from audit.isolation.source import HostedSource
from audit.isolation.wire import Document, Line, nameless, pair, read_document
from audit.loading import Dataset, Samples, load_dataset, samples_of
from audit.target import Blueprint, TorchTarget
from audit.workers import forked

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
        self._door = Door(self._wire, "third-party code")
        self._doors: list[Door] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what third-party code keeps on this machine though it should not."""
        return tuple(f"this system does not let third-party code be kept from {one}" for one in missing())

    def target(self, blueprint: Blueprint, device: torch.device) -> TorchTarget:
        """Have a target built; only processes that are forked from the one that has it are ever asked."""
        weights = {name: Document(None, state) for name, state in weights_of(blueprint).items()}

        def build(*, lasts: bool) -> Built:
            wire, what = self._door.wire(), f"target {blueprint.name}"
            line = {
                "kind": "target",
                "blueprint": blueprint.model_dump(mode="json"),
                "device": device.type,
                "weights": list(weights),
                "lasts": lasts,
            }
            caller = Caller(wire, what, SECONDS)
            said = caller.ask(line, *(one.descriptor for one in weights.values()))
            return Built(said, caller, Door(wire, what))

        return HostedTarget(blueprint, build, device)

    def dataset(self, reference: str, root: Path, *, offline: bool) -> Dataset:
        """Have a dataset factory called, which alone may use the network."""
        wire, result = self._door.wire(), nameless()
        line = {"kind": "dataset", "reference": reference, "root": str(root), "offline": offline}
        try:
            Caller(wire, reference, DATA_SECONDS).ask(line, result)
            known, tensors = read_document(result)
        except ThirdPartyFailed as error:
            raise DataError(str(error)) from error
        finally:
            os.close(result)
        source = HostedSource(self._lasting(Door(wire, f"dataset {reference}")))
        audit = _split(tensors, reference, "audit")
        if audit is None:
            raise DataError(f"{reference}: its process gave no audit split")
        files = {str(name): str(one) for name, one in known["files"].items()}
        return Dataset(
            str(known["name"]),
            int(known["classes"]),
            str(known["digest"]),
            audit,
            _split(tensors, reference, "training"),
            None,
            source,
            files,
        )

    def check(self, functions: Sequence[Named], root: Path) -> None:
        """Have functions imported."""
        self._about_code({"check": True, "functions": functions, "root": str(root)})

    def sources_of(self, references: Sequence[str], networks: Sequence[Named], root: Path) -> Sources:
        """Have files found by importing what they define."""
        line = {"check": False, "references": references, "functions": networks, "root": str(root)}
        files, notes = self._about_code(line)
        return Sources(tuple(map(str, files)), tuple(map(str, notes)))

    def close(self) -> None:
        """End all of them."""
        if os.getpid() != self._owner:
            return
        for door in self._doors:
            door.close()
        self._doors.clear()
        self._wire.close()
        os.kill(self._origin, signal.SIGKILL)  # forked processes may hold the door open; what it forked dies with it
        os.waitpid(self._origin, 0)

    def _about_code(self, line: Line) -> Any:
        caller, result = self._door.open(SECONDS), nameless()
        try:
            caller.ask({"kind": "code", **line}, result)
            return None if line["check"] else read_document(result)[0]
        finally:
            caller.close()
            os.close(result)

    def _lasting(self, door: Door) -> Door:
        self._doors.append(door)
        return door


def _split(tensors: dict[str, Tensor], reference: str, name: str) -> Samples | None:
    images = tensors.get(f"{name} images")
    return None if images is None else samples_of((images, tensors.get(f"{name} labels")), f"{reference}: {name} split")


def host() -> Host:
    """Return where third-party code runs on this system; nothing that a policy names may be loaded yet."""
    return Processes() if sys.platform == "linux" else InThisProcess()
