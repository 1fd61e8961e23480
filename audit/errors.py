"""What can go wrong, as types. Every message says what was expected, what came, where, and what to do.

    AuditError
    +-- PolicyError        a policy, register or waiver file is wrong            exit 4
    +-- DataError          the data to judge on are damaged or malformed         exit 4
    +-- DataMissing        the data are not here; ``--policy auto`` moves on      exit 4 when named
    +-- TargetError        a target cannot be built, loaded or asked
    |   +-- ThirdPartyFailed  what a policy names raised something when it was asked, or its process ended
    +-- IntegrityError     bytes differ from what they are pinned to
    +-- AttackError        an attack returned something that is not its input, moved
    +-- WorkerFailed       a piece of work broke in its own process, or that was killed
    +-- ScannerError
        +-- ScannerMissing the tool is not installed                            NOT_RUN
        +-- ScannerFailed  the tool broke or answered with nonsense              INCONCLUSIVE

A requirement that is not met is no error but a failed assertion; the last three types are those.
"""


class AuditError(Exception):
    """Base of all errors of the harness."""


class PolicyError(AuditError):
    """A policy, register or waiver file is wrong."""


class DataError(AuditError):
    """The data are damaged or do not have the promised form."""


class DataMissing(AuditError):
    """The data are not on this machine and cannot be had."""


class TargetError(AuditError):
    """A target cannot be built, loaded or asked."""


class ThirdPartyFailed(TargetError):
    """What a policy names raised something when it was asked, or its process ended."""


class IntegrityError(AuditError):
    """Bytes differ from the digest they are pinned to."""


class AttackError(AuditError):
    """An attack returned something that is not a moved copy of its input."""


class WorkerFailed(AuditError):
    """A piece of work broke in a process of its own, or its process was killed."""


class ScannerError(AuditError):
    """An outside tool gave no usable answer."""


class ScannerMissing(ScannerError):
    """An outside tool is not installed, or what it needs is out of reach."""


class ScannerFailed(ScannerError):
    """An outside tool broke, ran out of time or answered with something that cannot be read."""


class RequirementNotMet(AssertionError):
    """The verdict is NOT_MET: the one failure that a waiver may excuse."""


class Undecided(AssertionError):
    """The verdict is INCONCLUSIVE."""


class NotExamined(AssertionError):
    """The verdict is NOT_RUN and the requirement may not go unexamined."""
