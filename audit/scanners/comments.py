"""Suppression comments in Python source: ``# nosec RULE, RULE  # why``, and likewise ``# nosemgrep``.

The tools honour looser spellings that nobody would notice. So they run with their own suppressions switched off, and
only a comment that names its rules and gives a reason, in just this form, lifts a finding of those rules from its line.
One that lifts nothing is a finding: it would hide the next weakness of its line.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.records import Finding, Severity, Suppression, SuppressionKind

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
            what, reason = found["what"].strip(), (found["reason"] or "").strip()
            effective = bool(what) and len(reason) >= LEAST_REASON
            kind = SuppressionKind.COMMENT if effective else SuppressionKind.COMMENT_WITHOUT_EFFECT
            listed.append(Suppression(tool=tool, what=what, path=name, line=line, reason=reason or "none", kind=kind))
            if not effective:
                message = f"'# {mark}' without rule or reason has no effect; write '# {mark} RULE  # why'"
                unreasoned.append(
                    Finding(tool=tool, rule="reason", severity=Severity.LOW, path=name, line=line, message=message)
                )
    return tuple(listed), tuple(unreasoned)


def lift(findings: Sequence[Finding], listed: Sequence[Suppression]) -> tuple[Finding, ...]:
    """Return the findings that no effective comment covers, and one for each rule of a comment that covers nothing."""
    covered = {
        (one.path, one.line, rule): one.tool
        for one in listed
        for rule in re.split(r"[\s,]+", one.what)
        if one.kind is SuppressionKind.COMMENT
    }
    found = {(one.path, one.line, one.rule) for one in findings}
    idle = [
        Finding(
            tool=tool,
            rule="unused-suppression",
            severity=Severity.LOW,
            path=path,
            line=line,
            message=f"no finding of {rule} on this line; take the comment out",
        )
        for (path, line, rule), tool in covered.items()
        if (path, line, rule) not in found
    ]
    return (*(one for one in findings if (one.path, one.line, one.rule) not in covered), *idle)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return
