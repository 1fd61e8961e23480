"""The shape of the house: imports point one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from audit.process import run

ROOT = Path(__file__).parents[3]

# Each module may import those of its own room and of the rooms before it, never of the rooms after it.
ROOMS = (
    ("errors",),
    ("records",),
    (
        "poisoning",
        "poisoning.triggers",
        "metrics",
        "held",
        "process",
        "isolation",
        "programs",
        "references",
        "files",
        "memorised",
        "memorised.changes",
        "memorised.copies",
        "folder",
        "lasting",
        "yaml_files",
        "terms",
        "store",
        "tools",
        "durations",
        "gate",
        "judge",
        "progress",
        "randomness",
        "artifacts",
        "artifacts.opcodes",
        "artifacts.unpack",
        "artifacts.signature",
        "artifacts.signing",
        "dependencies",
        "dependencies.difference",
        "dependencies.digests",
        "dependencies.environment",
        "dependencies.recorded",
        "dependencies.osv",
        "dependencies.advisories",
        "dependencies.loopback",
        "dependencies.pip_audit",
        "serving",
        "serving.chance",
        "serving.client",
        "serving.crafted",
        "serving.disguises",
        "serving.dressed",
        "serving.internals",
        "serving.lines",
        "serving.pictures",
        "serving.streaming",
        "serving.usage",
        "serving.weak_server",
        "serving.weak_state",
    ),
    (
        "arithmetic",
        "supervise",
        "compare",
        "devices",
        "extends",
        "repository",
        "identity",
        "loading",
        "register",
        "sequential",
        "artifacts.formats",
        "artifacts.safetensors_file",
        "artifacts.torch_file",
        "artifacts.weights",
        "artifacts.corpus",
        "artifacts.second_opinion",
        "defences",
        "poisoning.plan",
    ),
    ("outcome", "builtin", "copies", "workers", "witness"),
    ("by_class", "recount", "supervised", "target", "attacks", "scanners"),
    ("requirements", "trial", "provenance", "contract", "local"),
    ("building",),
    ("isolation.code", "isolation.confine"),
    ("isolation.wire",),
    ("isolation.caller", "isolation.serve"),
    ("isolation.hosted", "isolation.source"),
    ("isolation.host",),
    ("measure",),
    (
        "exhibits",
        "probes",
        "poisoning.detectors",
        "poisoning.excess",
        "poisoning.inversion",
        "poisoning.fingerprints",
        "poisoning.strip",
    ),
    ("poisoning.references", "policy", "serving.bench", "waivers"),
    ("since_base", "released"),
    ("drawn", "choose", "order", "session", "trainer", "collector", "report", "challenge"),
    ("memorised.examine",),
    ("settings", "scope"),
    ("options", "examine", "scenarios", "terminal", "dependencies.bom", "poisoning.clean_networks"),
    (
        "evasion",
        "artifacts.examine",
        "register.examine",
        "poisoning.catalogue",
        "poisoning.cure",
        "poisoning.integrity",
        "poisoning.training_data",
        "poisoning.unknown",
        "dependencies.installation",
        "dependencies.lock",
        "dependencies.planted",
        "dependencies.startup",
        "dependencies.vulnerabilities",
        "serving.access",
        "serving.agreement",
        "serving.asking",
        "serving.burdens",
        "serving.complete_log",
        "serving.exposure",
        "serving.hoarding",
        "serving.log_tampering",
        "serving.malformed",
        "serving.ordinary",
        "serving.origins",
        "serving.overload",
        "serving.planted",
        "serving.preprocessing",
        "serving.rates",
        "serving.resources",
        "serving.stand_in",
        "serving.tampering",
        "serving.unwritable",
    ),
    ("poisoning.examine", "poisoning.scenarios", "dependencies.examine", "serving.examine", "pinning"),
    ("checks", "ahead"),
    ("run",),
    ("plugin", "cli", "__main__"),
)
LEVELS = {name: level for level, room in enumerate(ROOMS) for name in room}


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports(path):
    """Return the modules that a file imports at run time or for its types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "audit")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module):
    """Return the room of a module; in a package whose modules have rooms of their own, that of the module."""
    parts = module.split(".")[1:]
    return next((name for name in (".".join(parts[:2]), *parts[:1]) if name in LEVELS), None)


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_every_module_has_a_room():
    assert {room(name_of(path)) for path in sources("audit")} - {None} == set(LEVELS)
    assert [name_of(path) for path in sources("audit") if room(name_of(path)) is None] == ["audit"]


@pytest.mark.parametrize("path", sources("audit"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = LEVELS.get(room(name_of(path)), len(ROOMS))
    for module in imports(path):
        if module.startswith("audit.") and room(module):
            assert LEVELS[room(module)] <= own, f"{path.name} imports {module}"


@pytest.mark.parametrize("name", ["judge", "gate"])
def test_the_judges_see_records_only(name):
    seen = {module for module in imports(ROOT / "audit" / f"{name}.py") if module.startswith("audit.")}
    assert seen == {"audit.records"}


def test_the_harness_and_its_subject_do_not_know_each_other():
    assert not [path for path in sources("audit") if any(m.startswith("model_under_test") for m in imports(path))]
    assert not [path for path in sources("model_under_test") if any(m.startswith("audit") for m in imports(path))]


def test_importing_the_package_does_not_import_torch():
    program = "import sys, audit, audit.policy, audit.judge, audit.cli; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", program], cwd=ROOT, seconds=60).code == 0


@pytest.mark.parametrize("package", ["audit", "model_under_test"])
def test_modules_stay_small_enough_to_read(package):
    long = {
        path.name: n for path in sources(package) if (n := len(path.read_text(encoding="utf-8").splitlines())) > 320
    }
    assert not long
