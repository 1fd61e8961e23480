"""The requirements of the serving family: one type a check, and the command by which the server is started."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from audit.records import Family, Metric, Record
from audit.requirements.base import BaseRequirement, GeneralThreat, Limits, Turn, WeakServerControl

PLACES = ("weights_folder", "sha256", "log", "settings", "tokens", "name", "scope", "expires")
Arguments = tuple[str, ...]


class ServerSpec(Record):
    """How the audited model is served: arguments of this Python, without a shell.

    ``command`` starts the server, which says ``serving on http://127.0.0.1:PORT`` as its first line of output.
    ``without_tokens`` or ``with_tokens`` is appended to it. ``make_token`` prints a new token, with ``expiring`` one
    that has a last day, and ``verify_log`` ends with 0 where the log is whole. ``revoke_token`` takes a token out of
    the file again; without it that part is not tried. The audit fills in the places in braces.
    """

    command: Annotated[Arguments, Field(min_length=1)]
    without_tokens: Arguments
    with_tokens: Arguments
    make_token: Annotated[Arguments, Field(min_length=1)]
    expiring: Arguments
    verify_log: Annotated[Arguments, Field(min_length=1)]
    revoke_token: Arguments = ()
    start_seconds: Annotated[float, Field(gt=0, le=300)] = 60.0

    @field_validator("command", "without_tokens", "with_tokens", "make_token", "expiring", "verify_log", "revoke_token")
    @classmethod
    def _known_places(cls, arguments: Arguments) -> Arguments:
        for place in re.findall(r"\{([^}]*)\}", " ".join(arguments)):
            if place not in PLACES:
                raise ValueError(f"expected places among {', '.join(PLACES)} (got {{{place}}})")
        return arguments


class _ServingRequirement(BaseRequirement):
    """Base of the checks: findings against a server process on the loopback address."""

    metric: ClassVar[Metric] = Metric.FINDINGS
    usual_turn: ClassVar[Turn] = Turn.WAITING
    family: Literal[Family.SERVING]
    threat_model: GeneralThreat
    control: WeakServerControl


class MalformedRequirement(_ServingRequirement):
    """Generated malformed requests that crash the server, are accepted, or are answered with its internals."""

    check: Literal["malformed-input"]
    requests: Annotated[int, Field(ge=500, le=20_000)] = 600
    seed: int = 0


class ResourceRequirement(_ServingRequirement):
    """Oversize bodies, decompression bombs and slow clients that are not cut off, or keep others from an answer."""

    usual_turn: ClassVar[Turn] = Turn.ALONE
    check: Literal["resources"]
    slow_clients: Annotated[int, Field(ge=1, le=50)] = 20


class AccessRequirement(_ServingRequirement):
    """Requests that get past the tokens or the rate limit."""

    check: Literal["access"]


class TamperingRequirement(_ServingRequirement):
    """Changed weights that are served, and changed audit logs that verify."""

    check: Literal["tampering"]


class ExposureRequirement(_ServingRequirement):
    """Missing security headers, a debug mode, and files or listings that nobody meant to publish."""

    check: Literal["exposure"]


class OverloadRequirement(_ServingRequirement):
    """Requests that are dropped, answered twice or answered wrongly while ``clients`` ask without a pause."""

    usual_turn: ClassVar[Turn] = Turn.ALONE
    check: Literal["overload"]
    clients: Annotated[int, Field(ge=8, le=64)] = 24
    seconds: Annotated[float, Field(gt=0, le=20)] = 3.0


class LogRequirement(_ServingRequirement):
    """Answered requests without their line in the audit log, after the server was killed under load."""

    check: Literal["log"]
    clients: Annotated[int, Field(ge=1, le=16)] = 4
    answers: Annotated[int, Field(ge=20, le=2_000)] = 200


class AgreementRequirement(_ServingRequirement):
    """Served answers that differ from the audited model's, class or probabilities, rounded to ``decimals``."""

    check: Literal["agreement"]
    samples: Limits = Limits(quick=1000, full=1000)
    decimals: Annotated[int, Field(ge=1, le=8)] = 4


ServingRequirement = Annotated[
    MalformedRequirement
    | ResourceRequirement
    | AccessRequirement
    | TamperingRequirement
    | ExposureRequirement
    | OverloadRequirement
    | LogRequirement
    | AgreementRequirement,
    Field(discriminator="check"),
]
