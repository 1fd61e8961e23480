"""The scanners a policy may name. To add one: a file beside this one, and a row in the table."""

from audit.scanners.bandit import Bandit
from audit.scanners.detect_secrets import DetectSecrets
from audit.scanners.interface import CodeScanner
from audit.scanners.semgrep import Semgrep

CODE_SCANNERS: dict[str, type[CodeScanner]] = {"bandit": Bandit, "semgrep": Semgrep, "detect-secrets": DetectSecrets}

__all__ = [
    "CODE_SCANNERS",
    "Bandit",
    "CodeScanner",
    "DetectSecrets",
    "Semgrep",
]
