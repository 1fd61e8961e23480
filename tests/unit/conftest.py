"""Fixtures of the harness's own tests. None needs MNIST, a network or a GPU."""

from __future__ import annotations

import copy
from functools import cache, partial
from importlib.metadata import version

# Imported once here: pytester forgets what an inner run imported, and these are slow to import again.
import art.attacks.evasion
import art.estimators.classification
import cyclonedx.validation.json
import jsonschema
import pytest
import scipy.stats
import torch
import torch._dynamo  # an optimiser's first step imports it, and with it C code that cannot be loaded twice
import torchvision.transforms.v2
from hypothesis import settings
from jinja2 import Environment, FileSystemBytecodeCache

from audit import measure, provenance, yaml_files
from audit.loading import Samples
from audit.local import LocalTarget
from audit.measure import Laboratory
from audit.report import as_html
from audit.store import Store
from tests.unit import toy

__all__ = ["art", "cyclonedx", "jsonschema", "scipy", "torchvision"]

settings.register_profile("deterministic", deadline=None, derandomize=True)
settings.load_profile("deterministic")


@pytest.fixture(scope="session", autouse=True)
def _what_is_always_the_same_is_made_once(tmp_path_factory):
    """Keep what every run makes anew though nothing changed: most of what a toy audit takes."""
    loaded = cache(yaml_files._load)
    installed = cache(version)
    templates = FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_files, "_load", lambda content: copy.deepcopy(loaded(content)))
        patch.setattr(measure, "version", installed)
        patch.setattr(provenance, "version", installed)
        patch.setattr(as_html, "Environment", partial(Environment, bytecode_cache=templates))
        yield


@pytest.fixture
def samples():
    """Give the toy images."""
    split = toy.data(offline=True).audit
    return Samples(split.images, split.labels)


@pytest.fixture
def laboratory(tmp_path):
    """Give a laboratory with an empty store."""
    return Laboratory("sha256:toy", Store(tmp_path / "results", b"secret"), lambda done, total: None)


@pytest.fixture(scope="session")
def make_target():
    """Give a function that turns a toy network into a target."""

    def make(network, name="toy", digest=None):
        return LocalTarget(
            name,
            network,
            classes=getattr(network, "classes", toy.CLASSES),
            digest=digest or f"sha256:{name}",
            bounds=(0.0, 1.0),
            device=torch.device("cpu"),
        )

    return make
