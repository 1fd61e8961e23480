"""A subject whose answers are known, and requirements as a policy would state them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from audit.requirements import ServerSpec, ServingRequirement
from audit.serving.bench import Picture, Subject
from audit.serving.client import pixels_body
from tests.unit.audit.conftest import requirement

WIDTH = 36
QUESTIONS = 40
SMALL = {"overload": {"seconds": 0.5}, "log": {"answers": 60}, "resources": {"slow_clients": 5}}


def serving_requirement(check, **rest):
    """Return the requirement of a check, as small as it may be."""
    stated = requirement(
        "SERV-001", "serving", {"metric": "findings", "at_most": 0}, check=check, control={"server": "weak"}
    )
    return TypeAdapter(ServingRequirement).validate_python({**stated, **SMALL.get(check, {}), **rest})


def server_spec(*command):
    """Return a spec with a command of its own and nothing else of use."""
    nothing = ("-c", "")
    return ServerSpec(
        command=command or nothing,
        without_tokens=(),
        with_tokens=(),
        make_token=nothing,
        expiring=(),
        verify_log=nothing,
        start_seconds=20,
    )


@pytest.fixture
def subject(tmp_path):
    """Give forty questions and their answers; the weights are only bytes."""
    chance = np.random.default_rng(5)
    folder = tmp_path / "release"
    folder.mkdir()
    weights = folder / "w.safetensors"
    weights.write_bytes(chance.bytes(2000))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "w.json").write_text(json.dumps({"sha256": digest}), encoding="utf-8")
    return Subject(
        spec=server_spec(),
        root=tmp_path,
        weights=weights,
        sha256=digest,
        bodies=tuple(pixels_body(row) for row in chance.random((QUESTIONS, WIDTH)).round(3).tolist()),
        expected=tuple((index % 3, (0.2, 0.3, 0.5)) for index in range(QUESTIONS)),
        width=WIDTH,
        pictures=(Picture("a drawing", "image/png", chance.bytes(300), (1, (0.1, 0.8, 0.1))),),
    )
