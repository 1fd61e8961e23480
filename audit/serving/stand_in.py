"""The subject behind the stand-in server: the same questions, and a server with one weakness, or with none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from audit.requirements import ServerSpec
from audit.serving import weak_server
from audit.serving.bench import Subject


def weak_subject(subject: Subject, weak: str, folder: Path) -> Subject:
    """Return the same subject behind the audit's own server, which has the weakness; the empty one for none."""
    answers = folder / "answers.json"
    known = [*zip(subject.bodies, subject.expected, strict=True)]
    known += [(picture.body, picture.expected) for picture in subject.pictures]
    said = {hashlib.sha256(body).hexdigest(): expected for body, expected in known}
    answers.write_text(json.dumps(said), encoding="utf-8")
    program = ("-I", str(Path(weak_server.__file__)), *(("--weak", weak) if weak else ()))
    serve = ("serve", "--weights", "{weights_folder}", "--sha256", "{sha256}", "--log", "{log}")
    spec = ServerSpec(
        command=(*program, *serve, "--settings", "{settings}", "--answers", str(answers)),
        without_tokens=("--open",),
        with_tokens=("--tokens", "{tokens}"),
        make_token=(*program, "token", "--tokens", "{tokens}", "--name", "{name}", "--scope", "{scope}"),
        expiring=("--expires", "{expires}"),
        verify_log=(*program, "verify-log", "{log}"),
        revoke_token=(*program, "token", "--tokens", "{tokens}", "--name", "{name}"),
        start_seconds=30,
    )
    return replace(subject, spec=spec)
