"""What the plugin writes to the terminal, and what it keeps out of reports."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from audit.progress import Ticker


class Terminal:
    """Writes to the terminal from within a captured test, and keeps this machine's paths out of what is kept."""

    def __init__(self, config: pytest.Config) -> None:
        """Use the reporter and the capture manager of this pytest run; processes forked from it write nothing."""
        self._config, self._process = config, os.getpid()
        self._ticker: Ticker | None = None

    def tick(self, done: int, total: int) -> None:
        """Show progress of an attack."""
        if os.getpid() != self._process:
            return
        if self._ticker is None:
            stream = sys.__stderr__ if sys.__stderr__ is not None and sys.__stderr__.isatty() else None
            self._ticker = Ticker(stream, self.announce)
        with self.foreground():
            self._ticker(done, total)

    @contextmanager
    def foreground(self) -> Iterator[None]:
        """Let output through while the span lasts."""
        manager = self._config.pluginmanager.getplugin("capturemanager")
        if manager is None or os.getpid() != self._process:
            yield
            return
        with manager.global_and_fixture_disabled():
            yield

    def announce(self, line: str) -> None:
        """Write a line of its own, now."""
        with self.foreground():
            self.write(line)

    def write(self, line: str) -> None:
        """Write a line of its own."""
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if os.getpid() != self._process:
            return
        if isinstance(reporter, TerminalReporter):
            reporter.ensure_newline()
            reporter.write_line(line)
            reporter.flush()

    def scrub(self, text: str) -> str:
        """Replace absolute paths of this machine by what they mean."""
        places = {
            f"{self._config.rootpath}/": "",
            str(self._config.rootpath): ".",
            sys.prefix: "<environment>",
            sys.base_prefix: "<python>",
            tempfile.gettempdir(): "<tmp>",
            str(Path.home()): "~",
        }
        for path, meaning in places.items():
            if path.strip("/"):  # a container's home may be the root itself
                text = text.replace(path, meaning)
        return text
