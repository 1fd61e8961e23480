"""The pytest plugin: options, parametrisation, fixtures and hooks. It forwards to the run and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from audit.durations import WORTH_TELLING_SECONDS, spoken
from audit.errors import AuditError, NotExamined, RequirementNotMet, Undecided
from audit.folder import forget_latest
from audit.isolation.host import host
from audit.options import pytest_addoption, refuse, settings_of
from audit.outcome import Outcome
from audit.records import Evidence, Exhibit, Family, IfNotRun, Report, Status, TimingKind, Verdict
from audit.report import as_html
from audit.requirements import BaseRequirement, Turn
from audit.run import AuditRun
from audit.session import AuditSession
from audit.store import Arrays
from audit.supervised import Supervision
from audit.terminal import Terminal

__all__ = ["pytest_addoption"]

RUN = pytest.StashKey[AuditRun]()
RECORDED = pytest.StashKey[Verdict]()
UNIT = Path("tests/unit")
_FAILURES = (RequirementNotMet, Undecided, NotExamined)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load policy and data before anything runs; what is wrong with them is a usage error (exit 4)."""
    config.addinivalue_line("markers", "requirements(family): one item per requirement of this family")
    config.addinivalue_line("markers", "exhibits(kind): one item per exhibit of this kind")
    if not _is_audit(config):
        return
    supervision, terminal, settings = Supervision.of(config), Terminal(config), settings_of(config)
    refuse(config, supervised=supervision is not None)
    forget_latest(config.rootpath / settings.report_dir)
    shown = (terminal.tick, terminal.foreground, terminal.announce, terminal.scrub)
    processes = host()  # before anything that a policy names is loaded
    try:
        run = AuditRun(config.rootpath, settings, *shown, processes, supervision.run if supervision else None)
    except AuditError as error:
        processes.close()
        message = str(error).replace(f"{config.rootpath}/", "")  # relative within the repository, real elsewhere
        raise pytest.UsageError(f"{type(error).__name__}: {message}") from error
    config.stash[RUN] = run
    config.option.verbose = max(config.option.verbose, 1)
    config.option.tbstyle = "short"
    folder = run.open_folder()
    config.option.htmlpath, config.option.self_contained_html = str(folder / "report.html"), True
    config.option.xmlpath = str(folder / "junit.xml")
    config.pluginmanager.register(AuditHooks(run, terminal, supervision), "audit-hooks")


@pytest.fixture
def audit(pytestconfig: pytest.Config) -> AuditSession:
    """Give the session of this audit: targets, samples, laboratory."""
    return pytestconfig.stash[RUN].session


@pytest.fixture
def statuses(pytestconfig: pytest.Config) -> dict[str, Status]:
    """Give the verdicts so far, by requirement id."""
    return pytestconfig.stash[RUN].collector.statuses()


@pytest.fixture
def record(request: pytest.FixtureRequest, requirement: BaseRequirement) -> Callable[..., None]:
    """Give the function that judges evidence; it raises unless the requirement is met."""
    run = request.config.stash[RUN]

    def judge_and_keep(
        evidence: Evidence, outcome: Outcome | None = None, *, matrix: dict[str, Any] | None = None
    ) -> None:
        if RECORDED in request.node.stash:
            raise RuntimeError(f"{requirement.id}: evidence was recorded twice; one item records once")
        verdict, exhibits = run.record(requirement, evidence, outcome)
        request.node.stash[RECORDED] = verdict
        request.node.user_properties.append(("verdict", run.scrub(verdict.model_dump_json())))
        request.node.user_properties.extend(("exhibit", run.scrub(one.model_dump_json())) for one in exhibits)
        run.collector.stride_matrix = matrix or run.collector.stride_matrix
        _raise_unless_met(requirement, verdict, block=requirement.id in run.blocked)

    return judge_and_keep


@pytest.fixture
def exhibit(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Give the function that keeps an exhibit for the report, with a gallery where its scenario asks for one."""
    run = request.config.stash[RUN]

    def keep(exhibit: Exhibit, outcome: Outcome | None = None, *, arrays: Arrays | None = None) -> None:
        kept = [exhibit if arrays is None else run.with_arrays(exhibit, arrays)]
        if outcome is not None:
            kept += run.illustrate(request.getfixturevalue("shown"), request.node.callspec.id, outcome)
        request.node.user_properties.extend(("exhibit", run.scrub(one.model_dump_json())) for one in kept)

    return keep


class AuditHooks:
    """The hooks of a run that is an audit."""

    def __init__(self, run: AuditRun, terminal: Terminal, supervision: Supervision | None) -> None:
        """Forward to this run, write to this terminal, answer whoever supervises the run."""
        self._run, self._terminal, self._supervision = run, terminal, supervision
        self._report: Report | None = None
        self._owners: dict[str, str] = {}

    def pytest_report_header(self) -> list[str]:
        """Say which policy, why, and which target, before anything runs."""
        run = self._run
        seconds, jobs = run.expected_seconds(), run.workers.count
        expected = f"about {spoken(seconds)}, as last time" if seconds else "no run of this kind to go by"
        return [
            f"policy: {run.choice.reason}",
            f"target: {run.session.target_name} on {run.device}, {jobs} process{'es' if jobs > 1 else ''}",
            f"expected: {expected}",
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Start what runs beside the items."""
        if not session.testsfailed:
            self._run.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what to expect of a long step."""
        seconds = self._run.expected_seconds(self._owners.get(nodeid, nodeid.rpartition("::")[2]))
        if seconds is not None and seconds >= WORTH_TELLING_SECONDS:
            self._terminal.announce(f"about {spoken(seconds)}, as last time")

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave the harness's own tests out of an audit."""
        return True if collection_path == self._run.root / UNIT else None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one item per requirement of the marked family, and one per exhibit of the marked kind."""
        for mark in metafunc.definition.iter_markers("requirements"):
            family = Family(mark.args[0])
            chosen = [one for one in self._run.requirements if one.family is family]
            metafunc.parametrize("requirement", [self._parameter(one) for one in chosen] or [_NOTHING])
        for mark in metafunc.definition.iter_markers("exhibits"):
            shown = self._run.exhibits()[mark.args[0]]
            parameters = [pytest.param(one, id=f"{mark.args[0]}-{index}") for index, one in enumerate(shown)]
            metafunc.parametrize("shown", parameters or [_NOTHING])

    def _parameter(self, requirement: BaseRequirement) -> Any:
        waiver = next((one for one in self._run.waivers if one.id == requirement.id), None)
        excused = pytest.mark.xfail(
            strict=True, raises=RequirementNotMet, reason=f"waived until {waiver.expires}" if waiver else ""
        )
        return pytest.param(requirement, id=requirement.id, marks=[excused] if waiver else [])

    @pytest.hookimpl(trylast=True)  # after -k and -m have taken items away
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Hold every requirement to exactly one item, and let each come in its turn."""
        items[:] = [item for item in items if not _is_nothing(item)]
        counts = dict.fromkeys((one.id for one in self._run.requirements), 0)
        for item in items:
            requirement = _requirement(item)
            if requirement is not None:
                counts[requirement.id] += 1
                self._owners[item.nodeid] = requirement.id
        wrong = [f"{name} has {count}" for name, count in counts.items() if count != 1]
        if wrong:
            raise pytest.UsageError(
                f"every requirement needs exactly one test item: {', '.join(wrong)}; "
                "to audit some requirements use --only, not paths or -k"
            )
        items.sort(key=_turn)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Fail an item that recorded nothing; shorten our own failures to a sentence; keep paths out."""
        report = yield
        if item.nodeid in self._owners and report.when == "call" and report.passed:
            verdict = item.stash.get(RECORDED, None)
            if verdict is None or verdict.status is not Status.MET:
                report.outcome = "failed"
                report.longrepr = "the test ended without recording a verdict of MET: silence is never a pass"
        if call.excinfo is not None and isinstance(call.excinfo.value, _FAILURES):
            if report.failed:
                report.longrepr = self._terminal.scrub(str(call.excinfo.value))
        elif call.excinfo is not None and report.failed:
            report.longrepr = self._terminal.scrub(report.longreprtext)
        report.sections = [(name, self._terminal.scrub(text)) for name, text in report.sections]
        if report.skipped and isinstance(report.longrepr, tuple):
            where, line, reason = report.longrepr
            report.longrepr = (self._terminal.scrub(where), line, self._terminal.scrub(reason))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand what an item recorded, or how it broke, to the collector."""
        collector, owner = self._run.collector, self._owners.get(report.nodeid)
        if report.when == "call":
            self._add_timing(report, owner)
            for name, value in report.user_properties:
                if name == "verdict":
                    collector.add_verdict(Verdict.model_validate_json(str(value)))
                elif name == "exhibit":
                    collector.add_exhibit(Exhibit.model_validate_json(str(value)))
        last = report.longreprtext.strip().splitlines()[-1:] or ["no message"]
        if report.failed and owner is not None:
            collector.item_failed(owner, last[0])
        elif report.failed:
            collector.exhibit_failed(report.nodeid.rpartition("::")[2], last[0])
        elif report.skipped and owner is not None:
            collector.item_skipped(owner, last[0])

    def _add_timing(self, report: pytest.TestReport, owner: str | None) -> None:
        beside = self._run.session.seconds_beside.get(owner or "")
        name, kind = owner or report.nodeid.rpartition("::")[2], TimingKind.REQUIREMENT if owner else TimingKind.EXHIBIT
        seconds = report.duration if beside is None else beside
        self._run.collector.add_timing(name, kind, seconds, beside=beside is not None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Show the verdict instead of PASSED."""
        owner = self._owners.get(report.nodeid)
        if report.when != "call" or not report.passed or owner is None:
            return None
        verdict = self._run.collector.find(owner)
        return None if verdict is None else ("passed", ".", f"{verdict.status}: {verdict.reason}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Build the report before pytest-html draws it, and let the gate set the exit code."""
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        self._report = self._run.finish()
        session.exitstatus = self._report.gate.exit_code

    def pytest_unconfigure(self) -> None:
        """Finish the report folder and say, as the last lines, the gate and where the report lies."""
        page = self._run.close(complete=self._report is not None)
        if self._report is not None and page is not None:
            for line in (self._report.policy_changes or {"sentences": ()})["sentences"]:
                self._terminal.write(line)
            self._terminal.write(self._report.gate.sentence)
            self._terminal.write(f"report: {page}")
            if self._supervision is not None and self._run.folder is not None:
                self._supervision.tell(self._run.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the page, and replace the environment table, which could hold anything, by our provenance."""
        report.title = f"Security audit of {self._run.session.target_name}"
        report.set_data("environment", {"Policy": self._run.choice.name})

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the audit above the test log."""
        if self._report is not None and self._run.folder is not None:
            prefix.append(as_html.render(self._report, self._run.folder))


_NOTHING = pytest.param(None, id="none")


def _raise_unless_met(requirement: BaseRequirement, verdict: Verdict, *, block: bool) -> None:
    sentence = f"{requirement.id} {requirement.title}: {verdict.status}: {verdict.reason}"
    if verdict.status is Status.NOT_MET:
        raise RequirementNotMet(sentence)
    if verdict.status is Status.INCONCLUSIVE:
        raise Undecided(sentence)
    if verdict.status is Status.NOT_RUN:
        if requirement.if_not_run is IfNotRun.REPORT and not block:
            pytest.skip(sentence)
        raise NotExamined(sentence)


def _requirement(item: pytest.Item) -> Any:
    return (
        item.callspec.params.get("requirement")
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else None
    )


def _turn(item: pytest.Item) -> float:
    """Return the turn of a requirement; exhibits come before what reads the others."""
    requirement = _requirement(item)
    return Turn.LAST - 0.5 if requirement is None else requirement.turn


def _is_nothing(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return any(name in parameters and parameters[name] is None for name in ("requirement", "shown"))


def _is_audit(config: pytest.Config) -> bool:
    """Tell an audit from a run of the harness's own tests, by the paths that were given."""
    option = config.option
    if option.help or option.version or getattr(option, "showfixtures", False) or getattr(option, "markers", False):
        return False
    unit = (config.rootpath / UNIT).resolve()
    inside = [_path(config, argument).is_relative_to(unit) for argument in config.args]
    if any(inside) and not all(inside):
        raise pytest.UsageError(f"{UNIT} and the audit are separate runs: give paths of one of them")
    return not any(inside)


def _path(config: pytest.Config, argument: str) -> Path:
    return (config.invocation_params.dir / argument.partition("::")[0]).resolve()
