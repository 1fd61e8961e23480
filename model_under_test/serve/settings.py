"""The limits of the service: one YAML file, every key optional, none unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_under_test.errors import ServingError

MAXIMUM_BYTES = 2**16

Seconds = Annotated[float, Field(gt=0, le=3600)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])$")]


class Settings(BaseModel):
    """What a request may cost. The defaults are safe for a machine with two cores and half a gigabyte to spare."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    body_bytes: int = Field(default=2**20, ge=1, le=2**28, description="largest body of a request, in bytes")
    image_pixels: int = Field(default=2**20, ge=1, le=2**26, description="largest picture, in pixels")
    images: int = Field(default=16, ge=1, le=256, description="most images in a request")
    json_depth: int = Field(default=8, ge=4, le=100, description="deepest nesting of a JSON body")
    in_flight: int = Field(default=8, ge=1, le=256, description="most requests that are predicted at once")
    client_share: float = Field(default=0.75, gt=0, le=1, description="share of them that one client may have")
    request_seconds: Seconds = Field(default=10.0, description="longest time from first byte to answer")
    header_seconds: Seconds = Field(default=5.0, description="longest time for the headers of a request")
    write_seconds: Seconds = Field(default=10.0, description="longest time until an answer has been read")
    drain_seconds: float = Field(default=0.0, ge=0, le=600, description="from not ready until no longer listening")
    rate_per_minute: int = Field(default=120, ge=1, le=10**7, description="most images of a client in a minute")
    connections: int = Field(default=100, ge=1, le=10_000, description="most connections open at once")
    probabilities: bool = Field(default=True, description="answer with probabilities, not with the class alone")
    log_bytes: int = Field(default=2**24, ge=2**10, le=2**40, description="size at which the audit log rotates")
    log_reserve_bytes: int = Field(default=2**26, ge=0, le=2**40, description="space kept for records of predictions")
    anchor_seconds: Seconds = Field(default=300.0, description="time between two anchors of the audit log")
    model_name: Name = Field(default="digits", description="its name in the Open Inference Protocol")
    hosts: tuple[Host, ...] = Field(
        default=(), strict=False, description="hosts that requests may be addressed to, beside loopback"
    )
    log_fsync: bool = Field(default=False, description="wait for the disk before each answer")


def read(path: Path | None) -> Settings:
    """Read settings; without a file, the defaults.

    Raises:
        ServingError: missing, too large, not YAML, or a key or value that is not allowed.
    """
    if path is None:
        return Settings()
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise ServingError(f"{path}: expected settings of at most {MAXIMUM_BYTES} bytes")
        found = yaml.safe_load(path.read_bytes())
        return Settings.model_validate({} if found is None else found)
    except OSError as error:
        raise ServingError(f"{path}: expected a file of settings, got {error.strerror}; check --settings") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ServingError(f"{path}: {where}: {first['msg']}; docs/serving.md lists the settings") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, ServingError):
            raise
        raise ServingError(f"{path}: expected YAML, got: {' '.join(str(error).split())[:200]}") from error
