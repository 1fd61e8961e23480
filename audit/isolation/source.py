"""A dataset factory's own object, and the trainer beside it, in a process of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from audit.compare.changes import printable
from audit.errors import ThirdPartyFailed
from audit.isolation.caller import Door
from audit.isolation.wire import nameless, write_document
from audit.loading import Samples, Trained

TRAINING_SECONDS = 86_400.0
DIGEST_SECONDS = 600.0


class HostedSource:
    """A dataset factory's own object in another process, and the trainer beside it."""

    def __init__(self, door: Door) -> None:
        """Ask processes behind a door, which leads to one that has called the factory."""
        self._door = door

    def train(
        self,
        trainer: str,
        recipe: str,
        *,
        device: str,
        retrain: bool,
        seed: int | None = None,
        examples: Samples | None = None,
    ) -> Trained:
        """Have the trainer make or find the weights of a recipe, its progress on this process's terminal."""
        data = nameless()
        caller = self._door.open(TRAINING_SECONDS)
        try:
            if examples is not None:
                write_document(data, None, {"images": examples.images, "labels": examples.labels})
            sys.stdout.flush()
            sys.stderr.flush()
            line = {
                "what": "train",
                "trainer": trainer,
                "recipe": recipe,
                "device": device,
                "retrain": retrain,
                "seed": seed,
                "examples": examples is not None,
            }
            said = caller.ask(line, 1, 2, data)
            notes = tuple(printable(str(one)) for one in said["notes"])
            return Trained(Path(str(said["path"])), printable(str(said["sha256"])), notes)
        except (KeyError, TypeError) as error:
            raise ThirdPartyFailed(f"{trainer}: expected a path, a SHA-256 and notes") from error
        finally:
            caller.close()
            os.close(data)

    def training_digest(self, function: str, recipe: str) -> str:
        """Return what a function that a policy names says decides the weights of a recipe."""
        caller = self._door.open(DIGEST_SECONDS)
        try:
            said = caller.ask({"what": "training digest", "function": function, "recipe": recipe})
            return printable(str(said.get("digest")))
        finally:
            caller.close()
