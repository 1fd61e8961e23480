"""The limits of the service: one YAML file, every key optional, none unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_under_test.errors import ServingError

MAXIMUM_BYTES = 2**16

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseModel):
    """What a request may cost. The defaults are safe for a machine with two cores and half a gigabyte to spare."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    body_bytes: int = Field(default=2**20, ge=1, le=2**28, description="largest body of a request, in bytes")
    image_pixels: int = Field(default=2**20, ge=1, le=2**26, description="largest picture, in pixels")
    json_numbers: int = Field(default=1024, ge=784, le=2**20, description="most numbers in a JSON body")
    json_depth: int = Field(default=4, ge=2, le=100, description="deepest nesting of a JSON body")
    in_flight: int = Field(default=8, ge=1, le=256, description="most predictions worked on at once")
    request_seconds: Seconds = Field(default=10.0, description="longest time from first byte to answer")
    header_seconds: Seconds = Field(default=5.0, description="longest time for the headers of a request")
    rate_per_minute: int = Field(default=120, ge=1, le=10**7, description="most requests of a client in a minute")
    connections: int = Field(default=100, ge=1, le=10_000, description="most connections open at once")
    probabilities: bool = Field(default=True, description="answer with probabilities, not with the class alone")
    log_bytes: int = Field(default=2**24, ge=2**10, le=2**40, description="size at which the audit log rotates")
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
