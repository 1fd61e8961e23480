"""The released digits model behind the real server, and questions to it with the audited answers."""

from __future__ import annotations

import torch
from pydantic import TypeAdapter

from audit.requirements import ServerSpec, ServingRequirement
from audit.serving.bench import Subject
from audit.serving.client import pixels_body
from audit.serving.examine import QUESTIONS
from audit.serving.preprocessing import pictures
from audit.yaml_files import read_raw, validated
from benchmarks.catches.mutant import PACKAGE, ROOT
from model_under_test import artifact, data, network

POLICY = ROOT / "policies" / "mnist.yaml"
WEIGHTS = ROOT / PACKAGE / "release_digits" / "digits-hardened.safetensors"


def digits(count: int = QUESTIONS) -> Subject:
    """Return so many images of the audit split, or all there are, as questions to the server of the shipped policy."""
    pinned = str(artifact.read_manifest(WEIGHTS)["sha256"])
    built = network.build()
    built.load_state_dict(artifact.load(WEIGHTS, pinned))
    images = data.load("digits", offline=True).audit.images[:count]
    with torch.inference_mode():
        shares = built.eval()(images).softmax(1)
        asked = pictures(images, lambda some: built(some).softmax(1)) if count > QUESTIONS else ()
    return Subject(
        spec=validated(read_raw(POLICY)[0]["server"], ServerSpec, POLICY),
        root=ROOT,
        weights=WEIGHTS,
        sha256=pinned,
        bodies=tuple(pixels_body(row) for row in images.flatten(1).tolist()),
        expected=tuple((int(row.argmax()), tuple(row.tolist())) for row in shares),
        width=images[0].numel(),
        pictures=asked,
    )


def requirements() -> dict[str, ServingRequirement]:
    """Return the requirement of each check, as the shipped policy states it."""
    adapter: TypeAdapter[ServingRequirement] = TypeAdapter(ServingRequirement)
    stated = [one for one in read_raw(POLICY)[0]["requirements"] if one["family"] == "serving"]
    return {one["check"]: adapter.validate_python(one) for one in stated}
