"""(Requirement, session) -> Evidence for the family of serving: one function a check, and the weakness it must find."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from audit.artifacts.weights import file_sha256
from audit.errors import IntegrityError, TargetError
from audit.examine import control_result, count
from audit.records import ControlResult, Evidence, Measurement
from audit.requirements import AgreementRequirement, OverloadRequirement, ServerSpec, ServingRequirement
from audit.serving import client
from audit.serving.access import access
from audit.serving.agreement import agreement
from audit.serving.bench import Bench, Shared, Subject, Tried
from audit.serving.complete_log import complete_log
from audit.serving.exposure import exposure
from audit.serving.malformed import malformed
from audit.serving.overload import overload
from audit.serving.preprocessing import pictures
from audit.serving.resources import resources
from audit.serving.stand_in import weak_subject
from audit.serving.tampering import tampering
from audit.session import AuditSession

CONTROL_SECONDS = 1.0  # of overload, enough for a weak server to show itself
QUESTIONS = 64  # images that checks ask about where any will do
CHECKS: dict[str, tuple[Callable[[Bench, Any], Tried], str]] = {
    "malformed-input": (malformed, "crashes"),
    "resources": (resources, "patient"),
    "exposure": (exposure, "exposed"),
    "overload": (overload, "drops"),
    "access": (access, "trusting"),
    "tampering": (tampering, "blind"),
    "log": (complete_log, "forgetful"),
    "agreement": (agreement, "mistaken"),
}


def serving(requirement: ServingRequirement, session: AuditSession) -> Evidence:
    """Attack a server of the audited weights as the requirement's ``check`` says, and the weak one beside it."""
    spec = session.file.policy.server
    if spec is None:
        return Evidence(not_run="the policy names no command that serves the model (server at the top level)")
    try:
        found = subject(requirement, spec, session)
    except (TargetError, IntegrityError) as error:
        return Evidence(doubt=f"the target was refused: {error}")
    if found is None:
        return Evidence(not_run=f"target {session.target_name} has no weight file to serve")
    weak = CHECKS[requirement.check][1]

    short = requirement
    if isinstance(requirement, OverloadRequirement):
        short = requirement.model_copy(update={"seconds": min(requirement.seconds, CONTROL_SECONDS)})

    def control() -> ControlResult:
        name = f"a server that {DESCRIBED[weak]}"
        return control_result(name, requirement.bound, lambda: measured(examined(short, found, weak)))

    with ThreadPoolExecutor(max_workers=1) as pool:
        # most of a check is waiting, so its control can run beside it; but load is measured alone
        beside = None if short is not requirement else pool.submit(control)
        try:
            tried = examined(requirement, found, shared=session.lasting.get("server", lambda: Shared(found)))
        except (TargetError, OSError, ValueError, KeyError) as error:  # no log where one was named, one of other keys
            return Evidence(doubt=_reason(error), control=beside.result() if beside else control())
        shown = beside.result() if beside else control()
    return Evidence(
        measurement=measured(tried),
        findings=tuple(tried.findings),
        probes=tuple(tried.probes),
        control=shown,
        tables={"serving": tried.settings},
    )


def _reason(error: Exception) -> str:
    """Return why a check broke off, without the paths that the operating system adds."""
    if isinstance(error, TargetError):
        return str(error)
    said = error.strerror if isinstance(error, OSError) else str(error)
    return f"the check broke off: {type(error).__name__}: {said}"


def examined(
    requirement: ServingRequirement, subject: Subject, weak: str | None = None, shared: Shared | None = None
) -> Tried:
    """Run a check on a subject; with ``weak`` on the audit's own server with that weakness, the empty one for none.

    Raises:
        TargetError: the server did not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        bench = Bench(subject if weak is None else weak_subject(subject, weak, folder), folder, shared)
        return CHECKS[requirement.check][0](bench, requirement)


def measured(tried: Tried) -> Measurement:
    """Return the count of what was found."""
    rules = [f"{rule} ({times})" for rule, times in sorted(tried.counts.items())]
    found = count(tried.findings, max(1, tried.n), **tried.settings, **({"rules": rules} if rules else {}))
    total = float(sum(tried.counts.values()))
    return found.model_copy(update={"value": total, "low": total, "high": total})


def subject(requirement: ServingRequirement, spec: ServerSpec, session: AuditSession) -> Subject | None:
    """Return what is served, with questions and the audited model's answers; None for a target without weights.

    Raises:
        TargetError: the target cannot be built.
        IntegrityError: its weight file is not the pinned one.
    """
    weights = session.weights(session.target_name)
    if weights is None:
        return None
    agreement = isinstance(requirement, AgreementRequirement)
    samples = session.samples(requirement.samples if agreement else QUESTIONS)  # type: ignore[union-attr]
    images = samples.images.flatten(1)
    target = session.target()
    probabilities = target.all_logits(samples.images).softmax(1)
    asked = pictures(samples.images, lambda some: target.all_logits(some).softmax(1)) if agreement else ()
    return Subject(
        spec=spec,
        root=session.root,
        weights=weights.path,
        sha256=weights.sha256 or weights.found or file_sha256(weights.path) or "",
        bodies=tuple(client.pixels_body(row) for row in images.tolist()),
        expected=tuple((max(range(len(row)), key=row.__getitem__), tuple(row)) for row in probabilities.tolist()),
        width=images.shape[1],
        pictures=asked,
    )


DESCRIBED = {
    "crashes": "crashes on malformed input and shows its traceback",
    "patient": "waits for slow clients, one after the other, and reads bodies of any size",
    "trusting": "believes X-Forwarded-For and knows neither scopes nor last days of tokens",
    "blind": "does not look at its weights again, nor at its log",
    "exposed": "serves its own source and sets no headers",
    "drops": "closes the connection when it is busy",
    "forgetful": "writes its log later",
    "mistaken": "answers another class for one image in twenty",
}
