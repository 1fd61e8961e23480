"""What the scanners of Python source share: they read copies of the files, and speak of the files."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from audit.scanners.comments import lift, suppressions
from audit.scanners.copies import copied
from audit.scanners.interface import CodeScanner, Scan
from audit.scanners.source import is_python


class PythonScanner(CodeScanner):
    """Base of the scanners of Python source, which is more than what git tracks: all that is run with the model."""

    beyond_git: ClassVar[bool] = True
    suppression_mark: ClassVar[str]

    def wants(self, path: Path) -> bool:
        """Tell whether a file is Python: a module, a script, a notebook."""
        return is_python(path)

    def scan(self, root: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run the tool over copies; comments and acceptances of the policy lift findings afterwards."""
        with tempfile.TemporaryDirectory() as name:
            copies = copied(root, files, Path(name).resolve())
            if not copies.names:
                return Scan(tool=self.name, version="(not run)", lines_read=0, errors=tuple(copies.errors))
            raw = self.read(copies.folder, copies.names, rules_root)
            listed, unreasoned = suppressions(copies.folder, copies.names, self.suppression_mark, self.name)
            standing, accepted = self.settle(lift(raw.findings, listed), copies.folder, copies.originals)
        return raw.model_copy(
            update={
                "files_read": tuple(sorted(copies.originals.get(name, name) for name in raw.files_read)),
                "findings": tuple(copies.original(one) for one in (*standing, *unreasoned)),
                "errors": (*copies.errors, *(copies.original_text(one) for one in raw.errors)),
                "suppressions": tuple(copies.original_suppression(one) for one in (*listed, *accepted)),
            }
        )

    @abstractmethod
    def read(self, folder: Path, files: Sequence[str], rules_root: Path) -> Scan:
        """Run the tool over files below ``folder``, and return all that it says, its own suppressions off.

        Raises:
            ScannerMissing: the tool is not installed.
            ScannerFailed: it broke, timed out or printed something unreadable.
        """
