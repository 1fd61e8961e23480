"""(Requirement, session) -> Evidence for the family of artifacts: one function a check."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.artifacts import second_opinion, signature
from audit.artifacts.corpus import Specimen, build
from audit.artifacts.signing import sign_with_new_key
from audit.artifacts.weights import load_weights
from audit.errors import AuditError, IntegrityError, ScannerError, ScannerMissing, TargetError
from audit.examine import control_result, count
from audit.process import run
from audit.records import ControlResult, Evidence, Finding, Measurement, Severity, Status
from audit.released import signed_files
from audit.repository import tracked_files
from audit.requirements import (
    ArtifactRequirement,
    LoadingRequirement,
    SecondOpinionRequirement,
    SignatureRequirement,
)
from audit.session import AuditSession

TOOL = "safe loading"
CHILD_SECONDS = 60.0
Loader = Callable[[Path, str | None], object]  # raises IntegrityError for what it refuses
_UNPICKLE = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"


def artifact(requirement: ArtifactRequirement, session: AuditSession) -> Evidence:
    """Examine what the requirement's ``check`` names."""
    return CHECKS[requirement.check](requirement, session)


def loading(requirement: LoadingRequirement, session: AuditSession) -> Evidence:
    """Check the target's weight file, and that the loader refuses every file of the corpus for its own reason."""
    try:
        weights = session.weights(session.target_name)
    except IntegrityError as error:  # its signature is broken
        return _unsigned(session, error, payload_control())
    if weights is None:
        return Evidence(not_run=f"target {session.target_name} has no weight file to examine")
    own = weight_findings(weights.path, weights.sha256, weights.path.name, load_weights)
    found, refused_rows = loader_findings(load_weights)
    settings = {"weights": weights.path.name, "origin": weights.origin.value, "corpus": len(refused_rows)}
    return Evidence(
        measurement=count((*own, *found), 1 + len(refused_rows), **settings),
        findings=(*own, *found),
        control=payload_control(),
        tables={"refused": refused_rows},
    )


def second(requirement: SecondOpinionRequirement, session: AuditSession) -> Evidence:
    """Ask another scanner about the model files; where it understands none of them, nothing was examined."""
    names = {name for pattern in requirement.artifacts for name in tracked_files(session.root, pattern)}
    files = {(session.root / name).resolve(): name for name in sorted(names)}
    weights = session.weights(session.target_name)
    if weights is not None:
        files.setdefault(weights.path.resolve(), weights.path.name)
    try:
        opinion = second_opinion.scan([(path, name) for path, name in files.items() if path.is_file()])
    except ScannerMissing as error:
        return Evidence(not_run=str(error))
    control = control_result("the malicious corpus", requirement.bound, _second_opinion_of_the_corpus)
    if not opinion.understood:
        why = f"{opinion.tool} understands none of {len(files)} files: it reads pickles only, and there are none"
        return Evidence(not_run=why, control=control)
    return Evidence(
        measurement=count(
            opinion.findings, len(opinion.understood), tool=opinion.tool, passed_over=len(opinion.passed_over)
        ),
        findings=opinion.findings,
        control=control,
    )


def signed(requirement: SignatureRequirement, session: AuditSession) -> Evidence:
    """Verify the folder of the target's weights against the configured public key."""
    name = session.target_name
    spec = session.spec(name)
    control = control_result(
        "tampered copies of a signed folder", requirement.bound, lambda: _tampered(session, spec.weights)
    )
    try:
        files = signed_files(name, session.spec(name), session.root)
    except TargetError as error:
        return Evidence(not_run=str(error), control=control)
    except IntegrityError as error:
        return _unsigned(session, error, control)
    return Evidence(measurement=count([], len(files), key=spec.public_key, files=sorted(files)), control=control)


def _unsigned(session: AuditSession, error: IntegrityError, control: ControlResult) -> Evidence:
    """Return the evidence of a broken signature: one finding, at the target's weight file."""
    broken = _finding("signature", str(session.spec(session.target_name).weights), str(error))
    return Evidence(measurement=count([broken], 1), findings=(broken,), control=control)


def weight_findings(path: Path, sha256: str | None, shown: str, load: Loader) -> list[Finding]:
    """Return what is wrong with the target's own weight file: not pinned, unreadable, another digest, refused."""
    if sha256 is None:
        return [_finding("unpinned", shown, "the policy pins no SHA-256, so other weights would pass for these")]
    try:
        load(path, sha256)
    except IntegrityError as error:
        return [_finding("weights", shown, str(error))]
    return []


def loader_findings(load: Loader) -> tuple[list[Finding], list[dict[str, str]]]:
    """Give a loader every file of the corpus.

    Returns:
        A finding for each file that it accepted, that broke it, or whose payload ran; and what it said to each.
    """
    found, said = [], []
    with tempfile.TemporaryDirectory() as name:
        marker = Path(name) / "marker"
        for specimen in build(marker):
            path = Path(name) / specimen.file
            path.write_bytes(specimen.content)
            try:
                load(path, None)
                answer = "accepted"
                found.append(_finding("accepted", specimen.file, f"{specimen.what}: the loader accepted it"))
            except AuditError as error:
                answer = str(error).removeprefix(f"{specimen.file}: ")
            except Exception as error:  # whatever a loader raises for a bad file, it was not made to refuse it
                answer = f"{type(error).__name__}: {error}"
                found.append(_finding("crashed", specimen.file, f"{specimen.what}: {answer}"))
            said.append({"file": specimen.file, "what": specimen.what, "answer": answer})
            path.unlink()
            if _fired(marker):
                found.append(_finding("executed", specimen.file, f"{specimen.what}: its payload ran"))
    return found, said


def payload_control() -> ControlResult:
    """Show that the payloads are real: plain pickle in a throw-away child process runs them."""
    fired, total = 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marker = folder / "marker"
        for specimen in build(marker):
            if specimen.pickled is not None:
                total += 1
                fired += _fires(specimen.pickled, folder, marker)
    return ControlResult(
        name="the same payloads under plain pickle",
        status=Status.NOT_MET if fired == total else Status.MET,
        detail=f"{fired} of {total} payloads ran in a child process",
    )


def _fires(pickled: bytes, folder: Path, marker: Path) -> bool:
    path = folder / "payload"
    path.write_bytes(pickled)
    try:
        run([sys.executable, "-I", "-c", _UNPICKLE, str(path)], cwd=folder, seconds=CHILD_SECONDS)
    except ScannerError:
        return False
    return _fired(marker)


def _fired(marker: Path) -> bool:
    """Tell whether a payload left its mark, and wipe it."""
    if not marker.exists():
        return False
    if marker.is_dir():
        marker.rmdir()
    else:
        marker.unlink()
    return True


def _second_opinion_of_the_corpus() -> Measurement:
    with tempfile.TemporaryDirectory() as name:
        malicious = [one for one in build(Path(name) / "marker") if one.pickled is not None]
        opinion = second_opinion.scan([_written(one, Path(name)) for one in malicious])
    return count(
        opinion.findings, len(malicious), rules=[f"{len(opinion.findings)} of {len(malicious)} malicious files"]
    )


def _written(specimen: Specimen, folder: Path) -> tuple[Path, str]:
    path = folder / specimen.file
    path.write_bytes(specimen.content)
    return path, specimen.file


def _tampered(session: AuditSession, weights: str | None) -> Measurement:
    """Sign a copy of the weights' folder, and count the tamperings of three that verification finds."""
    found: list[Finding] = []
    with tempfile.TemporaryDirectory() as name:
        folder, outside = Path(name) / "model", Path(name)
        if weights is None:
            folder.mkdir()
            (folder / "weights.safetensors").write_bytes(b"stands for weights")
        else:
            shutil.copytree((session.root / weights).parent, folder, ignore=shutil.ignore_patterns(signature.NAME))
        key = sign_with_new_key(folder, outside / signature.NAME, outside)
        signature.verify(folder, outside / signature.NAME, key)  # untouched, it must hold
        first = sorted(path for path in folder.rglob("*") if path.is_file())[0]
        content = first.read_bytes()
        changed = bytes([content[0] ^ 1]) + content[1:] if content else b"!"
        for what, path, body in (
            ("a changed byte", first, changed),
            ("a missing file", first, None),
            ("an added file", folder / "added", b"x"),
        ):
            if body is None:
                path.unlink()
            else:
                path.write_bytes(body)
            found += _caught(what, folder, outside / signature.NAME, key)
            first.write_bytes(content)
            (folder / "added").unlink(missing_ok=True)
    if len(found) < 3:
        raise IntegrityError(f"verification found {len(found)} of 3 tamperings")
    return count(found, 3, rules=[one.message for one in found])


def _caught(what: str, folder: Path, signed_by: Path, key: Path) -> list[Finding]:
    try:
        signature.verify(folder, signed_by, key)
    except IntegrityError:
        return [_finding("signature", folder.name, what)]
    return []


def _finding(rule: str, path: str, message: str) -> Finding:
    return Finding(tool=TOOL, rule=rule, severity=Severity.CRITICAL, path=path, message=message)


CHECKS: dict[str, Callable[[Any, AuditSession], Evidence]] = {
    "loading": loading,
    "second-opinion": second,
    "signature": signed,
}
