"""One audit run: the session, the collector and the report folder, from the command line's options to the files."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audit import ahead, drawn, folder, repository, scenarios
from audit.choose import choose
from audit.collector import Collector
from audit.dependencies import advisories, bom
from audit.devices import choose_device
from audit.durations import Durations
from audit.errors import PolicyError
from audit.exhibits import Scenario
from audit.files import cache_folder
from audit.isolation.host import Host
from audit.judge import judge
from audit.measure import Laboratory
from audit.order import order_of
from audit.outcome import Outcome
from audit.provenance import gather
from audit.records import Evidence, Exhibit, Family, Finding, Profile, Report, Verdict
from audit.register import read_register
from audit.report import as_json, as_sarif
from audit.requirements import BaseRequirement, RegisterRequirement
from audit.session import AuditSession, Options
from audit.settings import Settings
from audit.since_base import policy_changes
from audit.store import Arrays, Store, machine_secret
from audit.waivers import check_advisory_waivers, load_waivers
from audit.workers import Workers, settle

WAIVERS = "policies/waivers.yaml"
SHOWN_FINDINGS = 100
WHOLE_RUN = "whole run"


class AuditRun:
    """Holds the state of a run; the pytest plugin forwards to it."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        tick: Callable[[int, int], None],
        foreground: Callable[[], AbstractContextManager[None]],
        announce: Callable[[str], None],
        scrub: Callable[[str], str],
        host: Host,
        name: str | None = None,
    ) -> None:
        """Choose policy and data, and check every name the command line gives; the run's own ``name`` is drawn if None.

        ``host`` is where third-party code runs; it is closed with the run.

        Raises:
            AuditError: policy, data, advisories, target, device or a requirement id is wrong; nothing was written yet.
        """
        self.root, self.settings, self.scrub, self.started = root, settings, scrub, datetime.now(UTC)
        self.name = name or secrets.token_hex(16)
        self.choice = choose(settings.policy, root, host, offline=settings.offline)
        policy = self.choice.file.policy
        self._check_names()
        self.device = choose_device(settings.device)
        self.waivers = load_waivers(root / WAIVERS, policy)
        check_advisory_waivers(self.choice.file)
        self.policy_changes = policy_changes(root, self.choice.file, WAIVERS, self.waivers)
        snapshot = advisories.read(root / settings.advisories) if settings.advisories else None
        self.requirements = tuple(one for one in policy.requirements if not settings.only or one.id in settings.only)
        self._check_registers()
        self.collector = Collector([one.id for one in self.requirements], self.waivers)
        cache = cache_folder(root)
        secret = machine_secret(cache)
        order = order_of(policy.requirements, self.choice.dataset.audit, cache, settings.order_seed, secret)
        dataset = self.choice.dataset.held_out(order.seed) if policy.fits_networks else self.choice.dataset
        self.store = Store(cache / "results", secret)
        target = settings.target or policy.target
        kind = f"{self.choice.name}, {target}, {settings.profile}, {self.device}"
        self.durations = Durations(cache / "durations.json", kind)
        self._begun = time.monotonic()
        self.workers = self._workers()
        self.session = AuditSession(
            root=root,
            file=self.choice.file,
            dataset=dataset,
            order=order,
            options=Options(
                target,
                settings.profile,
                self.device,
                settings.offline,
                settings.retrain,
                settings.exhaustive,
                self.collector.waived,
                snapshot,
            ),
            laboratory=Laboratory(dataset.digest, self.store, tick, self.workers, self.name),
            host=host,
            foreground=foreground,
            announce=announce,
        )
        self.session.notes.extend(host.notes)
        self.session.check_references()
        self.folder: Path | None = None
        self._found: dict[str, tuple[Finding, ...]] = {}

    @property
    def blocked(self) -> frozenset[str]:
        """Return the requirements that close the gate when they were not examined, whatever the policy says."""
        block = self.settings.block
        return frozenset(block or (one.id for one in self.requirements)) if block is not None else frozenset()

    @property
    def partial(self) -> bool:
        """Tell whether ``--only`` left requirements out."""
        return len(self.requirements) < len(self.choice.file.policy.requirements)

    def start(self) -> None:
        """Start what is done ahead; the checks that mostly wait start when the first verdicts are there."""
        if self.settings.jobs > 1 and sys.platform == "linux":
            ahead.start(self.requirements, self.session)
            self.session.to_start_beside = self.requirements

    def expected_seconds(self, name: str | None = None) -> float | None:
        """Return how long a requirement took in the last run of this kind, or without a name all of this run."""
        if name is not None:
            return self.durations.expected([name])
        if self.partial:
            return self.durations.expected([one.id for one in self.requirements])
        return self.durations.expected([WHOLE_RUN])

    def open_folder(self) -> Path:
        """Create the report folder, which says that it is not finished, and return it."""
        self.folder = folder.begin(self.root / self.settings.report_dir, self.started, repository.commit(self.root))
        return self.folder

    def record(
        self, requirement: BaseRequirement, evidence: Evidence, outcome: Outcome | None
    ) -> tuple[Verdict, tuple[Exhibit, ...]]:
        """Judge evidence, writing per-sample arrays to the evidence folder; returns what the item must carry."""
        exhibits: tuple[Exhibit, ...] = ()
        if outcome is not None:
            name = self._write_samples(requirement.id, outcome)
            classes = self.session.target().classes
            exhibits = scenarios.of_requirement(requirement.id, requirement.title, outcome, classes, name)
            evidence = evidence.model_copy(update={"files": (*evidence.files, name)})
        self._found[requirement.id] = evidence.findings
        shortened = evidence.model_copy(update={"findings": evidence.findings[:SHOWN_FINDINGS]})
        return judge(requirement.id, requirement.bound, shortened), exhibits

    def illustrate(self, spec: Scenario, index: str, outcome: Outcome) -> tuple[Exhibit, ...]:
        """Return the gallery of a scenario that asks for one, its arrays written to the evidence folder."""
        if not spec.gallery:
            return ()
        return (scenarios.gallery(spec.label, outcome, self._write_samples(index, outcome)),)

    def with_arrays(self, exhibit: Exhibit, arrays: Arrays) -> Exhibit:
        """Write the arrays of an exhibit to the evidence folder, and name the file in it."""
        words = "".join(letter if letter.isalnum() else "-" for letter in exhibit.title.partition(" ")[0].lower())
        return exhibit.model_copy(update={"files": (self._write_arrays(f"{exhibit.kind}-{words}", arrays),)})

    def finish(self) -> Report:
        """Build the report; write ``audit.json``, ``audit.sarif`` with every finding, and the bills of materials."""
        policy_file, settings = self.choice.file, self.settings
        self._believe_only_unaltered_data()
        bill_notes = self._write_bills()
        report = self.collector.report(
            policy_file.policy,
            header={
                "path": self.choice.name,
                "sha256": policy_file.sha256,
                "extends": asdict(policy_file.extension) if policy_file.extension else None,
                "chosen": self.choice.reason,
                "profile": settings.profile.value,
                "dataset": self.choice.dataset.name,
                "data_digest": self.choice.dataset.digest,
                "order": self.session.order.model_dump(mode="json"),
                "data": self.session.copies.describe(),
                "requirements": [one.model_dump(mode="json") for one in self.requirements],
                "left_out": [
                    one.id for one in policy_file.policy.requirements if one.id not in {r.id for r in self.requirements}
                ],
                "exhibits_left_out": self._left_out(),
            },
            target=self.session.describe_target(),
            notes=(*self.session.notes, *self.store.notes, *bill_notes),
            seconds=time.monotonic() - self._begun,
            provenance=gather(self.root, self.device, self._command(settings), self.started, self.name),
            partial=self.partial,
            allow_incomplete=settings.allow_incomplete,
            blocked=self.blocked,
            extension=policy_file.extension,
            policy_changes=self.policy_changes,
        )
        whole = report.model_copy(update={"verdicts": tuple(self._with_findings(one) for one in report.verdicts)})
        taken = {one.name: one.seconds for one in report.timings if not one.beside}
        self.durations.keep(taken if self.partial else {**taken, WHOLE_RUN: report.seconds})
        report, whole = (Report.model_validate_json(self.scrub(one.model_dump_json())) for one in (report, whole))
        if self.folder is not None:
            as_json.write(report, self.folder / "audit.json")
            as_sarif.write(whole, self.folder / "audit.sarif")
        return report

    def _believe_only_unaltered_data(self) -> None:
        doubt = self.session.witness.doubt()
        if doubt is not None:
            self.collector.disbelieve(doubt)
            self.session.notes.append(doubt)

    def _command(self, settings: Settings) -> str:
        """Return the command that repeats a run with these settings, on images in the same order."""
        return replace(settings, order_seed=self.session.order.to_give).command(self.choice)

    def _with_findings(self, verdict: Verdict) -> Verdict:
        """Return a verdict with the findings that were cut from its evidence."""
        found = self._found.get(verdict.requirement_id, verdict.evidence.findings)
        return verdict.model_copy(update={"evidence": verdict.evidence.model_copy(update={"findings": found})})

    def close(self, *, complete: bool) -> Path | None:
        """Mark a finished report as such; remove an unfinished one, so that nothing half-written stays.

        Returns:
            Where ``report.html`` lies, relative to the repository where it is inside; None if there is none.
        """
        self.session.lasting.close()
        self.workers.close()
        self.session.host.close()
        if self.folder is None:
            return None
        page = self.folder / "report.html"
        if not complete or not page.is_file():
            folder.discard(self.folder)
            return None
        folder.finish(self.folder)
        return page.relative_to(self.root) if page.is_relative_to(self.root) else page

    def _check_names(self) -> None:
        policy, settings = self.choice.file.policy, self.settings
        if settings.target is not None and settings.target not in policy.targets:
            known = ", ".join(policy.targets)
            raise PolicyError(
                f"--target: expected one of {known} of {self.choice.file.path.name} (got {settings.target!r})"
            )
        known_ids = {one.id for one in policy.requirements}
        for option, names in (("--only", settings.only), ("--block-not-run", settings.block or ())):
            for name in names:
                if name not in known_ids:
                    raise PolicyError(f"{option}: expected one of {', '.join(sorted(known_ids))} (got {name!r})")

    def _check_registers(self) -> None:
        for one in self.requirements:
            if isinstance(one, RegisterRequirement):
                read_register(self.root / one.register_file)
                read_register(self.root / one.control.register_file)

    def _write_samples(self, name: str, outcome: Outcome) -> str:
        return self._write_arrays(name, {key: one for key, one in outcome.arrays.items() if key != "moved"})

    def _write_arrays(self, name: str, arrays: Arrays) -> str:
        relative = f"evidence/{name}.npz"
        if self.folder is not None:
            np.savez_compressed(self.folder / relative, allow_pickle=False, **arrays)
        return relative

    def _write_bills(self) -> list[str]:
        """Write the bills of materials of a whole audit, and of one of dependencies; returns what is wrong."""
        if self.folder is None or (self.partial and Family.DEPENDENCY not in {one.family for one in self.requirements}):
            return []
        bills = (
            bom.attempt(bom.SBOM, lambda: bom.environment_bill(self.root)),
            bom.attempt(bom.ML_BOM, self._model_bill),
        )
        for bill in bills:
            bill.write(self.folder)
            self.collector.add_exhibit(bill.exhibit)
        return [bill.note for bill in bills if bill.note]

    def _model_bill(self) -> bom.Bill:
        dataset = self.choice.dataset
        self.session.weigh()
        return bom.model_bill(self.session.describe_target(), dataset.name, dataset.digest, self.collector.verdicts)

    def _workers(self) -> Workers:
        """Return the processes that compute: forked ones cannot use a GPU, nor gradients where there is one."""
        if self.device.type != "cpu":
            return Workers(1)
        settle()  # also with one process: the same operations in the same order give the same figures
        return Workers(1 if torch.cuda.is_available() else self.settings.jobs)

    def exhibits(self) -> dict[str, tuple[Any, ...]]:
        """Return the exhibits of this run by kind."""
        settings = self.settings
        everything = settings.profile is Profile.FULL or settings.exhibits
        policy, chosen = self.choice.file.policy, self.requirements
        return drawn.of(policy, chosen, settings.profile, everything=everything, retrain=settings.retrain)

    def _left_out(self) -> dict[str, Any] | None:
        """Return how many exhibits of each kind this run did not draw, and the command that does; None for none."""
        if self.partial or self.settings.profile is Profile.FULL or self.settings.exhibits:
            return None
        counts = drawn.left_out(self.choice.file.policy.exhibits)
        command = self._command(replace(self.settings, exhibits=True))
        return {"counts": counts, "command": command} if counts else None
