"""The options of an audit on pytest's command line, and the settings that they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.records import Profile
from audit.settings import Settings
from audit.workers import cores


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an audit."""
    group = parser.getgroup("audit", "security audit of a model")
    group.addoption(
        "--policy", default="auto", metavar="FILE", help="policy file, or auto (default): MNIST, else digits"
    )
    group.addoption("--target", default=None, metavar="NAME", help="target of the policy; default: the one it names")
    group.addoption(
        "--only", nargs="+", action="extend", default=[], metavar="ID", help="audit these requirements only"
    )
    group.addoption("--profile", choices=[p.value for p in Profile], default="quick", help="upper limits of samples")
    group.addoption("--offline", action="store_true", help="do not try the network")
    group.addoption("--advisories", metavar="DIR", help="ask this snapshot of advisories, not the network")
    group.addoption("--allow-incomplete", action="store_true", help="open the gate when nothing is NOT_MET")
    group.addoption("--block-not-run", nargs="*", metavar="ID", help="treat if_not_run: report of these (all) as block")
    group.addoption("--device", default="auto", help="auto (default): cuda, then mps, then cpu")
    group.addoption("--retrain", action="store_true", help="train again, and compare with the released weights")
    group.addoption("--exhaustive", action="store_true", help="attack every sample, even where fewer decide")
    group.addoption("--exhibits", action="store_true", help="draw every exhibit, whatever the profile")
    # as pytest-xdist does: short options in lower case are pytest's own but for those that every user will look for
    group._addoption("-j", "--jobs", type=int, default=cores(), metavar="N", help="processes; default: one a core")
    group.addoption("--report-dir", default="reports", metavar="DIR", help="where report folders are made")


def settings_of(config: pytest.Config) -> Settings:
    """Return what the options say."""
    option = config.option
    return Settings(
        policy=option.policy,
        target=option.target,
        only=tuple(option.only),
        profile=Profile(option.profile),
        offline=option.offline,
        allow_incomplete=option.allow_incomplete,
        block=None if option.block_not_run is None else tuple(option.block_not_run),
        device=option.device,
        retrain=option.retrain,
        exhaustive=option.exhaustive,
        exhibits=option.exhibits,
        jobs=option.jobs,
        report_dir=Path(option.report_dir),
        advisories=option.advisories,
    )
