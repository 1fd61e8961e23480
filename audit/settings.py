"""The options of a run, and the command that repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audit.choose import Choice
from audit.records import Profile


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of ``python -m audit run``, as pytest parsed them."""

    policy: str = "auto"
    target: str | None = None
    only: tuple[str, ...] = ()
    profile: Profile = Profile.QUICK
    offline: bool = False
    allow_incomplete: bool = False
    block: tuple[str, ...] | None = None
    device: str = "auto"
    retrain: bool = False
    exhaustive: bool = False
    exhibits: bool = False
    jobs: int = 1
    report_dir: Path = Path("reports")
    advisories: str | None = None
    order_seed: int | None = None

    def command(self, choice: Choice) -> str:
        """Return the command that repeats this run, every choice spelt out."""
        words = ["python -m audit run", f"--policy {choice.name}"]
        words += [f"--target {self.target or choice.file.policy.target}", f"--profile {self.profile}"]
        words += [f"--only {' '.join(self.only)}"] if self.only else []
        outside = Path(self.advisories or "").is_absolute()
        words += (
            [f"--advisories {Path(self.advisories).name if outside else self.advisories}"] if self.advisories else []
        )
        words += [f"--device {self.device}"] if self.device != "auto" else []
        words += [f"--order-seed {self.order_seed}"] if self.order_seed is not None else []
        flags = {
            "offline": self.offline,
            "allow-incomplete": self.allow_incomplete,
            "retrain": self.retrain,
            "exhaustive": self.exhaustive,
            "exhibits": self.exhibits,
        }
        words += [" ".join(["--block-not-run", *self.block])] if self.block is not None else []
        return " ".join(words + [f"--{name}" for name, given in flags.items() if given])
