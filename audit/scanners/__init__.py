"""The scanners a policy may name. To add one: a file beside this one, and a row in a table."""

from audit.scanners.bandit import Bandit
from audit.scanners.detect_secrets import DetectSecrets
from audit.scanners.interface import CodeScanner, DependencyScanner
from audit.scanners.pip_audit import PipAudit
from audit.scanners.semgrep import Semgrep

CODE_SCANNERS: dict[str, type[CodeScanner]] = {"bandit": Bandit, "semgrep": Semgrep, "detect-secrets": DetectSecrets}
DEPENDENCY_SCANNERS: dict[str, type[DependencyScanner]] = {"pip-audit": PipAudit}

__all__ = [
    "CODE_SCANNERS",
    "DEPENDENCY_SCANNERS",
    "Bandit",
    "CodeScanner",
    "DependencyScanner",
    "DetectSecrets",
    "PipAudit",
    "Semgrep",
]
