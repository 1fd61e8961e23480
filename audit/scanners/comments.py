"""Suppression comments in Python source: ``# nosec RULE, RULE  # why``, and likewise ``# nosemgrep``.

The tools honour looser spellings that nobody would notice. So they run with their own suppressions switched off, and
only a comment that names its rules and gives a reason, in just this form, lifts a finding of those rules from its line.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.records import Finding, Severity, Suppression

LEAST_REASON = 10  # characters


def suppressions(
    root: Path, files: Sequence[str], mark: str, tool: str
) -> tuple[tuple[Suppression, ...], tuple[Finding, ...]]:
    """Return the comments that carry a mark, and a finding for each that names no rule or gives no reason.

    Args:
        root: folder that the files are relative to.
        files: Python sources; what cannot be tokenised is left to the scanner, which reports it.
        mark: ``nosec`` or ``nosemgrep``.
        tool: whose mark it is.
    """
    listed, unreasoned = [], []
    for name in files:
        for line, comment in _comments((root / name).read_text(encoding="utf-8", errors="replace")):
            found = re.search(rf"#\s*{mark}\b[:\s]*(?P<what>[^#]*)(?:#\s*(?P<reason>.+))?$", comment)
            if found is None:
                continue
            reason = (found["reason"] or "").strip()
            listed.append(
                Suppression(tool=tool, what=found["what"].strip(), path=name, line=line, reason=reason or "none")
            )
            if len(reason) < LEAST_REASON or not found["what"].strip():
                message = f"'# {mark}' without rule or reason has no effect; write '# {mark} RULE  # why'"
                unreasoned.append(
                    Finding(tool=tool, rule="reason", severity=Severity.LOW, path=name, line=line, message=message)
                )
    return tuple(listed), tuple(unreasoned)


def lift(findings: Sequence[Finding], listed: Sequence[Suppression]) -> list[Finding]:
    """Return the findings that no listed comment with rule and reason covers."""
    covered = {
        (one.path, one.line, rule)
        for one in listed
        for rule in re.split(r"[\s,]+", one.what)
        if len(one.reason) >= LEAST_REASON
    }
    return [finding for finding in findings if (finding.path, finding.line, finding.rule) not in covered]


def _comments(source: str) -> Iterator[tuple[int, str]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return
