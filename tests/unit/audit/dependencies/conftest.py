"""Advisory records, snapshots of them, and services that misbehave, all on loopback."""

from __future__ import annotations

import json
import zipfile
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from audit.dependencies import advisories, pip_audit

TODAY = datetime.now(UTC).date()
LONG_AGO = "2025-01-02T03:04:05.678901Z"


def record(name="requests", id="PYSEC-2018-28", events=({"introduced": "0"}, {"fixed": "2.20.0"}), **changes):
    """Return an advisory as a dump has it."""
    affected = {
        "package": {"ecosystem": "PyPI", "name": name, "purl": f"pkg:pypi/{name}"},
        "ranges": [
            {"type": "GIT", "repo": "https://example.org/x", "events": [{"introduced": "0"}, {"fixed": "c45d7c49"}]},
            {"type": "ECOSYSTEM", "events": list(events)},
        ],
        "versions": [],
    }
    return {
        "schema_version": "1.7.0",
        "id": id,
        "modified": LONG_AGO,
        "published": "2018-10-09T17:29:00Z",
        "aliases": ["CVE-2018-18074"],
        "summary": "A summary.",
        "details": "More than a summary.",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}],
        "affected": [affected],
        "references": [{"type": "WEB", "url": "https://example.org"}],
        **changes,
    }


TORCH = record("torch", "GHSA-53q9-r3pm-6pq6", ({"introduced": "0"}, {"fixed": "2.6.0"}), aliases=["CVE-2025-32434"])
KNOWN = (record(), TORCH)


def write_dump(path, records):
    """Write a dump of the ecosystem."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in records:
            archive.writestr(f"{one['id']}.json", json.dumps(one))
    return path


@pytest.fixture(autouse=True)
def _tools_go_unmeasured(_children_go_unmeasured):
    """Start pip-audit and cyclonedx-py without coverage."""


@pytest.fixture
def make_snapshot(tmp_path):
    """Give a function that makes a snapshot folder of records, taken some days ago, when the first was changed."""

    def make(*records, age=1, name="snapshot"):
        taken = TODAY - timedelta(days=age)
        first, *others = records or KNOWN
        changed = {"modified": f"{min(taken, TODAY)}T00:00:00Z"} if first["modified"] == LONG_AGO else {}
        dump = write_dump(tmp_path / f"{name}.zip", [first | changed, *others])
        if age >= 0:
            advisories.make(dump, tmp_path / name, taken, "a stand-in")
            return tmp_path / name
        advisories.make(dump, tmp_path / name, TODAY, "a stand-in")
        redate(tmp_path / name, taken)
        return tmp_path / name

    return make


def redate(folder, taken: date):
    """Change the day on which a snapshot says it was taken."""
    head = folder / advisories.HEAD
    head.write_text(json.dumps({**json.loads(head.read_text()), "taken": taken.isoformat()}), encoding="utf-8")


class Service:
    """An OSV service on loopback that answers each query with the next of its answers, the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.queries, self.stop = list(answers), [], Event()

    def answer(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def standing_in(*answers):
    """Serve answers: (status, body) or a number of seconds to wait; gives the service and what asks it."""
    service = Service(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            service.queries.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = service.answer()
            if isinstance(answer, int):
                service.stop.wait(answer)
                return
            status, body = answer
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pip_audit.service(None) as live:
            url = f"http://127.0.0.1:{server.server_address[1]}/v1/query"
            options = ("--vulnerability-service", "osv", "--osv-url", url)
            yield service, pip_audit.Service("a stand-in", options, {**live.environment, "NO_PROXY": "127.0.0.1"})
    finally:
        service.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
