"""A service with untrained weights, its log in tmp_path, and real servers in threads and processes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import signal
import sys
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from model_under_test import artifact
from model_under_test.network import build_untrained
from model_under_test.serve.app import Application
from model_under_test.serve.audit_log import AuditLog
from model_under_test.serve.model import ServedModel
from model_under_test.serve.server import Server
from model_under_test.serve.service import Service
from model_under_test.serve.settings import Settings
from model_under_test.serve.tokens import Watched

ROOT = Path(__file__).parents[4]
RELEASE = ROOT / "model_under_test" / "release"
STROKES = {7: [(70, 60), (210, 60), (120, 230)], 4: [(90, 50), (70, 150), (210, 150), (180, 60), (175, 240)]}


@pytest.fixture
def weights(tmp_path):
    """Give a folder of untrained weights with their manifest."""
    artifact.save(tmp_path / "weights" / "w.safetensors", build_untrained().state_dict(), {})
    return tmp_path / "weights"


@pytest.fixture
def make_service(weights, tmp_path):
    """Give a function that puts a service together from settings."""
    with contextlib.ExitStack() as stack:

        def make(tokens=None, folder=weights, **limits):
            settings = Settings(**limits)
            log = AuditLog(tmp_path / "audit.jsonl", rotate_at=settings.log_bytes, fsync=settings.log_fsync)
            stack.callback(log.close)
            return Service(settings, Watched(tokens) if tokens else None, ServedModel(folder), log)

        yield make


class Answer:
    """A response; its JSON is an attribute."""

    def __init__(self, response):
        self.status_code, self.headers, self.data = response.status_code, response.headers, response.content
        self.text, self.content_type = response.text, response.headers.get("Content-Type")

    @property
    def json(self):
        return json.loads(self.data)


class Client:
    """Asks an application without a server in between."""

    def __init__(self, service):
        self.service, self.application, self.state = service, Application(service), {}

    async def _app(self, scope, receive, send):
        scope["state"] = dict(self.state)
        await self.application(scope, receive, send)

    def open(self, path, method, *, data=None, content_type=None, headers=(), **more):
        headers = {**dict(headers), **({"Content-Type": content_type} if content_type else {})}
        body = {"content": data} if isinstance(data, bytes) else {"data": data}
        transport = httpx.ASGITransport(self._app, client=("127.0.0.1", 50_000))

        async def ask():
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.request(method, path, headers=headers, **body, **more)

        return Answer(asyncio.run(ask()))

    def get(self, path, **more):
        return self.open(path, "GET", **more)

    def post(self, path, **more):
        return self.open(path, "POST", **more)


@pytest.fixture
def make_client(make_service):
    """Give a function that makes a client of an application; its service is ``client.service``."""
    with contextlib.ExitStack() as stack:

        def make(tokens=None, **limits):
            client = Client(make_service(tokens, **limits))
            stack.callback(client.application.close)
            return client

        yield make


@pytest.fixture
def make_server(make_service):
    """Give a function that serves on a free port of loopback in a thread."""
    with contextlib.ExitStack() as stack:

        def make(tokens=None, **limits):
            server = Server(make_service(tokens, **limits), "127.0.0.1", 0)
            ready = threading.Event()
            thread = threading.Thread(target=server.run, args=(ready.set,))
            thread.start()
            stack.callback(thread.join, 30)
            stack.callback(server.drain)
            assert ready.wait(10)
            return server

        yield make


@pytest.fixture
def start(tmp_path, pytester):
    """Give a function that starts the real command; returns the process and its address, or None where it ended."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments, weights=RELEASE, log=None, access=("--open",), **how):
            command = [sys.executable, "-m", "model_under_test.serve", "--weights", str(weights), "--port", "0"]
            command += ["--log", str(log or tmp_path / "audit.jsonl"), *access, *map(str, arguments)]
            process = pytester.popen(command, stdin=None, cwd=ROOT, text=True, **how)
            stack.callback(_end, process)
            found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            return process, found[1] if found else None

        yield begin


def _end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def drawing(digit, *, form="PNG", size=(280, 280), shift=(0, 0), ink=0, paper=255, mode="L", pen=22):
    """Return the bytes of a picture of a 4 or a 7, drawn with a round pen."""
    picture = Image.new(mode, size, paper)
    brush = ImageDraw.Draw(picture)
    points = [(x + shift[0], y + shift[1]) for x, y in STROKES[digit]]
    brush.line(points, fill=ink, width=pen, joint="curve")
    for x, y in points:
        brush.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=ink)
    return encode(picture, form)


def encode(picture, form="PNG", **options):
    """Return the bytes of a picture."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()
