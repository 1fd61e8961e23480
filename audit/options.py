"""The options of an audit on pytest's command line, those of pytest that it refuses, and the settings they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.records import Profile
from audit.settings import Settings
from audit.workers import cores

ONLY = "an audit examines every requirement of its policy, or those that --only names, and decides a gate"
DECIDE_NO_GATE = {  # pytest's options with which items are left out or not run, by the name under which it keeps them
    "collectonly": "--collect-only",
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "maxfail": "-x, --maxfail",
    "lf": "--lf",
    "failedfirst": "--ff",
    "stepwise": "--sw",
    "stepwise_skip": "--sw-skip",
    "setuponly": "--setup-only",
    "setupplan": "--setup-plan",
    "show_fixtures_per_test": "--fixtures-per-test",
    "cacheshow": "--cache-show",
}
OTHER_SUITE = {  # with which other configuration, tests or plug-ins than the project's run
    "inifilename": "-c",
    "rootdir": "--rootdir",
    "noconftest": "--noconftest",
    "pyargs": "--pyargs",
}
STRICT = {"strict=true", "strict_config=true", "strict_markers=true"}  # how pytest keeps --strict and its parts
PLUGINS = ("pytest_metadata.plugin", "pytest_html.plugin", "xdist.plugin", "no:cacheprovider")
REPORTS = ("htmlpath", "xmlpath")  # options of the plug-ins that write files of the report
LARGEST_SEED = 2**63 - 1


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
    group.addoption("--order-seed", type=int, metavar="N", help="look at the images in the order of an earlier report")
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
        order_seed=option.order_seed,
    )


def refuse(config: pytest.Config, *, supervised: bool) -> None:
    """Hold the command line to what an audit can do.

    Args:
        config: what pytest parsed; what is in its configuration file and environment counts as well.
        supervised: whether ``python -m audit run`` started this: then configuration and plug-ins are the project's.

    Raises:
        pytest.UsageError: an option would leave the gate undecided, or is malformed.
    """
    option = config.option
    if getattr(option, "numprocesses", None):
        raise pytest.UsageError("-n: an audit spreads its work itself, see -j; -n serves tests/unit")
    if option.jobs < 1:
        raise pytest.UsageError(f"-j: expected a number of processes, at least 1 (got {option.jobs})")
    if option.order_seed is not None and not 0 <= option.order_seed <= LARGEST_SEED:
        raise pytest.UsageError(f"--order-seed: expected a seed of 0 to {LARGEST_SEED} (got {option.order_seed})")
    names = DECIDE_NO_GATE | (OTHER_SUITE if supervised else {})
    given = [name for kept_as, name in names.items() if getattr(option, kept_as, None)]
    given += [f"-o {one}" for one in option.override_ini or () if supervised and one not in STRICT]
    plugins = [one for one in option.plugins if one not in PLUGINS]
    given += [f"-p {one}" for one in plugins if supervised or one.startswith("no:")]
    if given:
        raise pytest.UsageError(f"{', '.join(given)}: {ONLY}; without these options (they serve tests/unit)")
    if not all(hasattr(option, one) for one in REPORTS):
        raise pytest.UsageError("expected the plug-ins pytest_html and junitxml, which write the report (got none)")
