"""The frozen records that travel through an audit, and the closed sets they draw from. No I/O, no torch.

Whatever crosses a file is a pydantic model that refuses unknown keys, NaN and infinity.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = "1.2"

RequirementId = Annotated[str, Field(pattern=r"^[A-Z]{3,5}-\d{3}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# CWE-502, ML06:2023 (OWASP Machine Learning Top Ten), AML.T0043 or AML.M0003 (MITRE ATLAS 5.6), NISTAML.022 (NIST AI
# 100-2 E2025); references.py knows more
Reference = Annotated[str, Field(pattern=r"^(CWE-\d{1,4}|ML\d{2}:2023|AML\.[TM]\d{4}(\.\d{3})?|NISTAML\.\d{2,3})$")]


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Family(StrEnum):
    """What kind of evidence decides a requirement."""

    PERFORMANCE = "performance"
    EVASION = "evasion"
    POISONING = "poisoning"
    ARTIFACT = "artifact"
    STATIC = "static"
    DEPENDENCY = "dependency"
    SERVING = "serving"
    REGISTER = "register"


class Severity(StrEnum):
    """How bad it is when the requirement is not met."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Stride(StrEnum):
    """The six categories of the STRIDE threat model, by letter (Shostack 2014, chapter 3)."""

    SPOOFING = "S"
    TAMPERING = "T"
    REPUDIATION = "R"
    INFORMATION_DISCLOSURE = "I"
    DENIAL_OF_SERVICE = "D"
    ELEVATION_OF_PRIVILEGE = "E"


class Status(StrEnum):
    """The four verdicts."""

    MET = "MET"
    NOT_MET = "NOT_MET"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT_RUN"


class IfNotRun(StrEnum):
    """What a requirement that could not be examined does to the gate."""

    BLOCK = "block"
    REPORT = "report"


class Profile(StrEnum):
    """Upper limits of samples; never the strength of an attack."""

    QUICK = "quick"
    FULL = "full"


class Knowledge(StrEnum):
    """What the adversary knows."""

    WHITE_BOX = "white-box"
    BLACK_BOX_SCORE = "black-box score"
    BLACK_BOX_LABEL = "black-box label"
    TRANSFER = "transfer"


class Norm(StrEnum):
    """How the size of a perturbation is measured."""

    LINF = "linf"
    L2 = "l2"


class Metric(StrEnum):
    """What a bound may be put on."""

    CLEAN_ACCURACY = "clean_accuracy"
    ROBUST_ACCURACY = "robust_accuracy"
    WORST_CLASS_ACCURACY = "worst_class_accuracy"
    EXCESS_ASR = "excess_attack_success_rate"
    INVERTED_TRIGGER = "inverted_trigger_ratio"
    FLAGGED_SHARE = "flagged_share"
    FINDINGS = "findings"


class Bound(Record):
    """One metric and exactly one of ``at_least`` and ``at_most``, at a confidence."""

    metric: Metric
    at_least: float | None = None
    at_most: float | None = None
    confidence: Annotated[float, Field(ge=0.9, lt=1.0)] = 0.95

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            got = "neither" if self.at_least is None else "both"
            raise ValueError(f"give exactly one of at_least, at_most (got {got})")
        return self

    @property
    def limit(self) -> float:
        """Return the number of whichever side is set."""
        return self.at_least if self.at_least is not None else self.at_most or 0.0

    @property
    def text(self) -> str:
        """Return the bound as a reader writes it, for example ``>= 0.93``."""
        return f"{'>=' if self.at_least is not None else '<='} {self.limit:g}"


class ThreatModel(Record):
    """Goal, knowledge and capability of the adversary. ``eps`` is in the unit of the pixel range."""

    goal: str
    knowledge: Knowledge
    norm: Norm = Norm.LINF
    eps: Annotated[float, Field(gt=0.0)]


class Probe(Record):
    """A health check that must hold before a good number is believed."""

    name: str
    passed: bool
    detail: str


class Measurement(Record):
    """A number with the interval that decides. For an exact count ``low == value == high``.

    ``raw_value`` is the figure before the strict counting rules, shown beside it: for robust accuracy the share that
    is classified correctly after the attack, samples that were wrong before it included. ``interval`` names the method
    behind ``low`` and ``high``; an anytime-valid one stays valid although the search stopped as soon as it decided, at
    ``n`` of at most ``limit`` samples. ``would_decide`` is about how many an undecided one needs; ``remedy`` says it in
    words where that number does not.
    """

    metric: Metric
    value: float
    low: float
    high: float
    n: Annotated[int, Field(ge=1)]
    interval: str = "exact"
    limit: int | None = None
    would_decide: int | None = None
    remedy: str | None = None
    gradient_passes: int | None = None
    forward_passes: int | None = None
    raw_value: float | None = None
    seed: int | None = None
    settings: dict[str, Any] = {}
    seconds: float | None = None
    measured_at: str | None = None
    from_store: bool = False


class Finding(Record):
    """One complaint of a tool or check, with a path relative to the repository."""

    tool: str
    rule: str
    severity: Severity
    path: str
    line: int | None = None
    message: str


class SuppressionKind(StrEnum):
    """How a finding or a file was left out: by a comment in the source, by an acceptance or exclusion of the policy.

    A comment without rule or reason has no effect, and is a finding itself.
    """

    COMMENT = "comment"
    COMMENT_WITHOUT_EFFECT = "comment without effect"
    ACCEPTANCE = "acceptance"
    EXCLUSION = "exclusion"


class Suppression(Record):
    """Something that would have been a finding or a scanned file, and the reason why it is not.

    ``what`` has the rules, or says that a file was not scanned.
    """

    tool: str
    what: str
    path: str
    line: int | None = None
    reason: str
    kind: SuppressionKind = SuppressionKind.ACCEPTANCE


class ControlResult(Record):
    """What the same check said about something known to be bad. Anything but NOT_MET discredits the check."""

    name: str
    status: Status
    detail: str


class Evidence(Record):
    """Everything a verdict is judged from. Without a measurement, ``not_run`` or ``doubt`` says why.

    ``meaning`` says in words what it means if the bound is missed.
    """

    measurement: Measurement | None = None
    findings: tuple[Finding, ...] = ()
    probes: tuple[Probe, ...] = ()
    control: ControlResult | None = None
    not_run: str | None = None
    doubt: str | None = None
    meaning: str | None = None
    suppressions: tuple[Suppression, ...] = ()
    tables: dict[str, Any] = {}
    files: tuple[str, ...] = ()


class Verdict(Record):
    """The outcome of one requirement: status, reason in a sentence, and the evidence."""

    requirement_id: RequirementId
    status: Status
    reason: str
    margin: float | None = None
    measurement: Measurement | None = None
    evidence: Evidence
    waived: bool = False


class Waiver(Record):
    """An accepted failure: it changes the gate, never the verdict, until the day ``expires``, within a year."""

    id: RequirementId
    reason: Annotated[str, Field(min_length=10)]
    owner: Annotated[str, Field(min_length=2)]
    expires: date


class Gate(Record):
    """Whether the merge may pass, the exit code, and why, in one sentence."""

    open: bool
    exit_code: int
    sentence: str


class Exhibit(Record):
    """Something shown, not judged. ``kind`` says which section of the report draws ``data``."""

    kind: str
    title: str
    data: dict[str, Any]
    files: tuple[str, ...] = ()


class TimingKind(StrEnum):
    """What took the time."""

    REQUIREMENT = "requirement"
    EXHIBIT = "exhibit"


class Timing(Record):
    """How many seconds a requirement or an exhibit took; ``beside`` says that others were examined meanwhile."""

    name: str
    kind: TimingKind
    seconds: Annotated[float, Field(ge=0.0)]
    beside: bool = False


class Report(Record):
    """The one record that every output is rendered from; ``seconds`` is what the whole run took."""

    schema_version: str = SCHEMA_VERSION
    gate: Gate
    policy: dict[str, Any]
    policy_changes: dict[str, Any] | None = None
    target: dict[str, Any]
    partial: bool
    verdicts: tuple[Verdict, ...]
    exhibits: tuple[Exhibit, ...]
    waivers: tuple[Waiver, ...]
    notes: tuple[str, ...]
    stride_matrix: dict[str, Any] | None
    provenance: dict[str, Any]
    timings: tuple[Timing, ...] = ()
    seconds: float = 0.0
