"""The folder of a run's report, and ``latest``: the audit that began last, finished or not, never an older one.

``latest`` goes when an audit begins, and comes back as a link to the folder that this one fills. So whatever ends an
audit, be it kill -9, what ``latest`` shows is no earlier success: it is missing, or its folder says NOT-FINISHED. Of
several audits at once, the one that began last has it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from audit.errors import AuditError

LATEST = "latest"
UNFINISHED = "NOT-FINISHED"
MOST_AT_ONCE = 100  # audits of one commit that begin in the same second


def forget_latest(parent: Path) -> None:
    """Take ``latest`` away: whatever becomes of the audit that begins now, no older report stands for it."""
    with suppress(FileNotFoundError):
        if (parent / LATEST).is_symlink():
            (parent / LATEST).unlink()


def begin(parent: Path, started: datetime, commit: str | None) -> Path:
    """Make the folder ``<utc>-<commit>``, marked as not finished, and point ``latest`` at it.

    Raises:
        AuditError: there are too many of that name.
    """
    name = f"{started:%Y%m%dT%H%M%SZ}-{commit[:10] if commit else 'uncommitted'}"
    for place in range(1, MOST_AT_ONCE):
        folder = parent / (name if place == 1 else f"{name}-{place}")
        with suppress(FileExistsError):  # of another audit, which may just have made it
            folder.mkdir(parents=True)
            break
    else:
        raise AuditError(f"{name}: expected fewer than {MOST_AT_ONCE} report folders of one second; delete some")
    (folder / "evidence").mkdir()
    text = f"The audit that began at {started.isoformat(timespec='seconds')} has not finished: this proves nothing.\n"
    (folder / UNFINISHED).write_text(text, encoding="utf-8")
    _point_at(folder)
    return folder


def finish(folder: Path) -> None:
    """Mark a folder as finished; ``latest`` comes back if an audit that began later ended without a report."""
    (folder / UNFINISHED).unlink(missing_ok=True)
    if not (folder.parent / LATEST).exists():
        _point_at(folder)


def discard(folder: Path) -> None:
    """Remove a folder that was not finished, and ``latest`` if it points there, so that nothing half-written stays."""
    latest = folder.parent / LATEST
    if latest.is_symlink() and latest.readlink().name == folder.name:
        latest.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _point_at(folder: Path) -> None:
    scratch = folder.with_name(f".latest.{folder.name}")
    scratch.symlink_to(folder.name)
    scratch.replace(folder.parent / LATEST)
