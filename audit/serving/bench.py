"""A server process to attack: its folder, settings and tokens, its start, and its end whatever happens."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from audit.errors import TargetError
from audit.process import Child, Finished, run, running
from audit.records import Finding, Probe, Severity
from audit.requirements import ServerSpec
from audit.serving import client
from audit.serving.client import Answer, Header

TOOL = "served model"
MUCH = 1_000_000  # requests a minute: no limit for a check that looks at something else
COMMAND_SECONDS = 60.0
ASK_AGAIN_SECONDS = 0.2
BUSY = (429, 503)  # refusals that say: later
TRIES = 6  # of a request that the server is too busy for
BODY_BYTES = 65_536  # the limits of an ordinary server: far from what a question needs, near enough to be reached
IN_FLIGHT = 4  # predictions at once
LIMIT_SECONDS = 3  # for a request's header, and for all of it
ORDINARY = {
    "body_bytes": BODY_BYTES,
    "in_flight": IN_FLIGHT,
    "header_seconds": LIMIT_SECONDS,
    "request_seconds": LIMIT_SECONDS,
}
PLANTED = secrets.token_hex(16)  # what nobody but the server process is told, and no answer may hold
DEBUGGING = {"FLASK_DEBUG": "1", "FLASK_ENV": "development", "DEBUG": "1", "WERKZEUG_DEBUG_PIN": "off"}
SECRETS = {"API_SECRET": PLANTED, "DATABASE_URL": f"postgresql://service:{PLANTED}@127.0.0.1/service"}
KEPT = 25  # findings of one rule that are told one by one
SERVING = re.compile(r"serving on http://127\.0\.0\.1:(\d{1,5})")
Thing = TypeVar("Thing")
Made = TypeVar("Made")
Expected = tuple[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A question as a picture: what it is, how it is sent, the answer, and what the network should see of it."""

    what: str
    kind: str
    body: bytes
    expected: Expected
    seen: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What is served, and questions to it.

    ``bodies`` are JSON bodies of different images of the audit split, ``expected`` the audited model's class and
    probabilities for each, ``width`` the number of pixels of an image; ``pictures`` are questions of another kind.
    """

    spec: ServerSpec
    root: Path
    weights: Path
    sha256: str
    bodies: tuple[bytes, ...]
    expected: tuple[Expected, ...]
    width: int
    pictures: tuple[Picture, ...] = ()


@dataclass(slots=True)
class Tried:
    """What a check tried, and what it found: ``n`` requests or faults, figures, and what must hold to believe them."""

    n: int = 0
    findings: list[Finding] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    _count: dict[str, int] = field(default_factory=dict)

    def add(self, rule: str, where: str, message: str, severity: Severity = Severity.HIGH) -> None:
        """Add a finding; the first ones of a rule are told, all are counted."""
        self._count[rule] = self._count.get(rule, 0) + 1
        if self._count[rule] <= KEPT:
            self.findings.append(Finding(tool=TOOL, rule=rule, severity=severity, path=where, message=message[:400]))

    def take(self, other: Tried) -> None:
        """Add the findings of a part of the check."""
        self.findings += other.findings
        for rule, times in other.counts.items():
            self._count[rule] = self._count.get(rule, 0) + times

    @property
    def counts(self) -> dict[str, int]:
        """Return how often each rule was broken."""
        return dict(self._count)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    child: Child
    log: Path
    weights: Path

    def send(self, sent: bytes, **options: Any) -> Answer | None:
        """Send a request as bytes."""
        return client.exchange(self.port, sent, **options)

    def get(self, path: str, headers: Sequence[Header] = ()) -> Answer | None:
        """Ask for a page."""
        return self.send(client.request("GET", path, headers=headers))

    def patiently(self, sent: bytes, *, half_close: bool = False) -> Answer | None:
        """Send a request, and again where the server is busy: what it did not look at was not tried."""
        answer = None
        for attempt in range(TRIES):
            answer = self.send(sent, half_close=half_close)
            if answer is None or answer.status not in BUSY or not self.child.running:
                break
            time.sleep(0.05 * 2**attempt)
        return answer

    def predict(self, body: bytes, headers: Sequence[Header] = (), **options: Any) -> Answer | None:
        """Ask for the class of an image."""
        return self.send(client.request("POST", "/predict", body, headers), **options)

    def predict_picture(self, picture: bytes) -> Answer | None:
        """Ask for the class of a PNG."""
        return self.send(client.request("POST", "/predict", picture, kind="image/png"))

    def answers(self, body: bytes, headers: Sequence[Header] = ()) -> bool:
        """Tell whether it still answers an ordinary question."""
        healthy, answer = self.get("/healthz"), self.predict(body, headers)
        return healthy is not None and healthy.status == 200 and answer is not None and answer.status == 200


class Bench:
    """A temporary folder from which servers of one subject are started, one log and one token file each."""

    def __init__(self, subject: Subject, folder: Path, shared: Shared | None = None) -> None:
        """Copy the weight file and its manifest; ``shared`` lends an ordinary server where there is one."""
        self.subject, self.folder, self._shared = subject, folder, shared
        self.weights = self.copy_of_weights("weights")
        self.sample = subject.bodies[0]

    def copy_of_weights(self, name: str) -> Path:
        """Return a folder with a copy of the weight file and, where there is one, its manifest."""
        folder = self.folder / name
        folder.mkdir()
        manifest = self.subject.weights.with_suffix(".json")
        for path in (self.subject.weights, *([manifest] if manifest.is_file() else [])):
            shutil.copyfile(path, folder / path.name)
        return folder

    @contextmanager
    def ordinary(self) -> Iterator[Server]:
        """Give a server in open mode without a limit on the rate: the one that checks share, or one of this bench.

        Debugging is asked for in its environment, and must not come; a secret is there, and must stay.

        Raises:
            TargetError: it did not come up.
        """
        if self._shared is not None:
            yield self._shared.server()
        else:
            with self.serving(ORDINARY, log="ordinary.jsonl", environment=DEBUGGING | SECRETS) as server:
                yield server

    @contextmanager
    def serving(
        self,
        settings: Mapping[str, int] | None = None,
        *,
        tokens: Path | None = None,
        log: str = "audit.jsonl",
        environment: Mapping[str, str] | None = None,
        weights: Path | None = None,
    ) -> Iterator[Server]:
        """Start a server; it is gone at the end.

        Args:
            settings: its limits, by the names of the settings file; a client may ask as often as it likes by default.
            tokens: its file of tokens; without one it serves everybody.
            log: name of the audit log; a server that is to go on with a log names the same again.
            environment: added to ours.
            weights: the folder to serve from instead of the untouched copy.

        Raises:
            TargetError: it did not come up.
        """
        where = self.folder / "logs" / log
        where.parent.mkdir(exist_ok=True)
        limits = where.with_suffix(".settings.yaml")
        limits.write_text(json.dumps({"rate_per_minute": MUCH, **(settings or {})}), encoding="utf-8")  # JSON is YAML
        spec = self.subject.spec
        places = {"log": str(where), "settings": str(limits), "tokens": str(tokens or "")}
        places |= {"weights_folder": str(weights or self.weights), "sha256": self.subject.sha256}
        command = self._filled((*spec.command, *(spec.with_tokens if tokens else spec.without_tokens)), places)
        with running(command, cwd=self.subject.root, environment={**os.environ, **(environment or {})}) as child:
            first = child.first_line(spec.start_seconds)
            said = SERVING.fullmatch(first or "")
            if said is None:
                reason = self.without_paths(child.complaint if first is None else first)
                raise TargetError(f"the server did not start: expected its address as the first line, got {reason!r}")
            yield Server(int(said.group(1)), child, where, weights or self.weights)

    def make_token(self, tokens: Path, name: str, scope: str, expires: str | None = None) -> str:
        """Return a new token.

        Raises:
            TargetError: none was made.
        """
        spec = self.subject.spec
        words = (*spec.make_token, *(spec.expiring if expires else ()))
        places = {"tokens": str(tokens), "name": name, "scope": scope, "expires": expires or ""}
        done = self._run(self._filled(words, places))
        token = done.stdout.strip()
        if done.code != 0 or not token or len(token.split()) != 1:
            raise TargetError(f"no token was made: {self.without_paths(done.tail)}")
        return token

    def revoke_token(self, tokens: Path, name: str) -> None:
        """Take a token out of its file, by the command of the policy.

        Raises:
            TargetError: it could not be done.
        """
        done = self._run(self._filled(self.subject.spec.revoke_token, {"tokens": str(tokens), "name": name}))
        if done.code != 0:
            raise TargetError(f"a token could not be revoked: {self.without_paths(done.tail)}")

    def verify_log(self, log: Path) -> Finished:
        """Have an audit log verified."""
        return self._run(self._filled(self.subject.spec.verify_log, {"log": str(log)}))

    def without_paths(self, text: str) -> str:
        """Return a message without the folders of this machine."""
        return text.replace(str(self.folder), "").replace(str(self.subject.root), "")

    def _run(self, command: Sequence[str]) -> Finished:
        return run(command, cwd=self.subject.root, seconds=COMMAND_SECONDS)

    @staticmethod
    def _filled(words: Iterable[str], places: Mapping[str, str]) -> list[str]:
        filled = [sys.executable]
        for word in words:
            for name, value in places.items():
                word = word.replace(f"{{{name}}}", value)
            filled.append(word)
        return filled


class Shared:
    """A server for all checks that leave it as it was, started when the first of them asks for it."""

    def __init__(self, subject: Subject) -> None:
        """Start nothing yet."""
        self._subject, self._stack = subject, ExitStack()
        self._server: Server | None = None

    def server(self) -> Server:
        """Return the server; another one where the last one has ended.

        Raises:
            TargetError: it did not come up.
        """
        if self._server is None or not self._server.child.running:
            self.close()
            folder = Path(self._stack.enter_context(TemporaryDirectory())).resolve()
            self._server = self._stack.enter_context(Bench(self._subject, folder).ordinary())
        return self._server

    def close(self) -> None:
        """End the server, and remove what it left."""
        self._server = None
        self._stack.close()


def together(things: Sequence[Thing], threads: int, do: Callable[[Thing], Made]) -> list[Made]:
    """Do something with every thing, on a bounded number of threads; the results in the things' order."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(do, things))


def until(status: int, seconds: float, ask: Callable[[], Answer | None]) -> Answer | None:
    """Ask again and again until an answer has a status, for some seconds; returns the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if (answer is not None and answer.status == status) or time.monotonic() > deadline:
            return answer
        time.sleep(ASK_AGAIN_SECONDS)


def entries(log: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log and of what it was rotated into; what was moved aside as torn is none."""
    found = []
    for path in sorted(log.parent.glob(f"{log.name}*")):
        aside = ".torn-" in path.name or path.suffix == ".anchors"  # these are notes about lines
        for line in path.read_bytes().split(b"\n")[:-1] if not aside else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            found += [entry] if isinstance(entry, dict) else []
    return found
