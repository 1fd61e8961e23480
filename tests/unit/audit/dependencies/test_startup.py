"""DEP-002: nothing comes before the installed packages, and nothing takes their place, without a trace."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from audit.dependencies import recorded, startup
from audit.dependencies.environment import Places, located
from audit.dependencies.planted import install, sound, started
from audit.dependencies.startup import Process
from audit.errors import ScannerMissing
from audit.process import run
from audit.repository import tracked_files

ROOT = Path(__file__).parents[4]
OURS = "model-security-audit"


@pytest.fixture
def places(tmp_path):
    """Give a small, sound environment."""
    return sound(tmp_path / "here")


@pytest.fixture
def elsewhere(tmp_path):
    """Give a folder that belongs to nobody."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def look(places, process=None):
    return startup.inspect(places, located(places.search), recorded.read(places), process or started())


def rules(places, process=None):
    return [(one.rule, one.package) for one in look(places, process).differences]


def first(places, *entries):
    """Put entries before all others of the search path."""
    return replace(places, search=(*map(str, entries), *places.search))


def metadata(folder, name, version):
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    text = f"Name: {name}\nVersion: {version}\n"
    (folder / f"{name}-{version}.dist-info/METADATA").write_text(text, encoding="utf-8")


def test_sound_environment_has_nothing_before_it(places):
    assert look(places) == startup.Inspected()


SCRIPT = """
import json, os, sys
from pathlib import Path
from audit.dependencies import recorded, startup
from audit.dependencies.environment import Places, located
places = Places.here(Path(sys.argv[1]))
process = startup.Process.here(lambda folder: ())
given = startup.inspect(places, located(places.search), recorded.read(places), process)
print(json.dumps([[(one.rule, one.package, one.message) for one in given.differences], given.doubts]))
"""


def in_a_process(**variables):
    """Return what the running environment's interpreter says of itself when it is started with some variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "COVERAGE"))}
    done = run([sys.executable, "-c", SCRIPT, str(ROOT)], cwd=ROOT, seconds=60, environment={**kept, **variables})
    assert done.code == 0, done.tail
    differences, doubts = json.loads(done.stdout)
    return [one for one in differences if one[1] != OURS], doubts


def test_honest_environment_with_the_checkout_on_the_path_has_nothing_before_it():
    startup_file = {"PYTHONSTARTUP": "no/such/file.py"}
    assert in_a_process(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", **startup_file) == ([], [])


def test_fake_requests_of_metadata_only_on_pythonpath_are_found(elsewhere):
    metadata(elsewhere, "requests", "9999.0")
    differences, doubts = in_a_process(PYTHONPATH=f"{ROOT}{os.pathsep}{elsewhere}")
    assert [(rule, package) for rule, package, _ in differences] == [
        ("foreign path", "elsewhere"),
        ("shadowed", "requests"),
    ]
    assert differences[0][2].startswith("entry 2 of PYTHONPATH: .../elsewhere is neither the environment's nor")
    assert "2 distributions are called requests: 9999.0 in .../elsewhere, " in differences[1][2]
    assert doubts == []


def test_hook_that_runs_at_start_is_found(elsewhere):
    (elsewhere / "sitecustomize.py").write_text("", encoding="utf-8")
    differences, _ = in_a_process(PYTHONPATH=f"{ROOT}{os.pathsep}{elsewhere}")
    assert [rule for rule, _, _ in differences] == ["foreign path", "start-up hook"]


def test_hook_that_takes_its_folder_off_the_path_is_found(elsewhere):
    hides = "import os, sys\nsys.path.remove(os.path.dirname(__file__))\nos.environ.pop('PYTHONPATH')\n"
    (elsewhere / "sitecustomize.py").write_text(hides, encoding="utf-8")
    differences, _ = in_a_process(PYTHONPATH=f"{ROOT}{os.pathsep}{elsewhere}")
    assert [rule for rule, _, _ in differences] == ["start-up hook"]


def test_entry_that_belongs_to_nobody_is_refused_by_its_last_name_only(places, elsewhere, tmp_path):
    (one,) = look(first(places, elsewhere)).differences
    assert (one.rule, one.path) == ("foreign path", ".../elsewhere")
    assert str(tmp_path) not in one.message
    assert one.message.startswith("the search path: ")


def test_user_site_and_packages_of_the_systems_python_are_foreign(places, tmp_path):
    user = tmp_path / "home/.local/lib/python3.11/site-packages"
    system = places.library[0] / "site-packages"
    for folder in (user, system):
        folder.mkdir(parents=True)
        found = [rule for rule, _ in rules(replace(places, search=(*places.search, str(folder))))]
        assert found == ["foreign path"]


def test_entry_of_pythonpath_is_refused_though_this_process_no_longer_has_it(places, elsewhere):
    assert rules(places, started(PYTHONPATH=str(elsewhere))) == [("foreign path", "elsewhere")]
    assert rules(places, started(PYTHONPATH=str(places.checkout))) == []


def test_folder_of_the_checkout_is_its_own_where_git_tracks_it(places):
    for name in ("tests", ".cache"):
        (places.checkout / name).mkdir()
    process = Process({}, {}, lambda folder: ("tests/test_it.py",) if folder == "tests" else ())
    assert rules(first(places, places.checkout / "tests"), process) == []
    assert rules(first(places, places.checkout / ".cache"), process) == [("foreign path", ".cache")]
    with zipfile.ZipFile(places.checkout / "more.zip", "w") as archive:
        archive.writestr("alpha.py", "")
    tracks_all = Process({}, {}, lambda folder: (folder,))
    assert rules(first(places, places.checkout / "more.zip"), tracks_all) == [("foreign path", "more.zip")]


def test_checkout_that_git_cannot_tell_of_is_a_doubt(places):
    def missing(folder):
        raise ScannerMissing("git: expected on PATH, not found")

    (places.checkout / "tests").mkdir()
    given = look(first(places, places.checkout / "tests"), Process({}, {}, missing))
    assert given.doubts == (
        "what the checkout adds to the search path cannot be told: git: expected on PATH, not found",
    )


def test_empty_entry_is_the_working_folder(places, elsewhere, monkeypatch):
    monkeypatch.chdir(places.checkout)
    assert rules(first(places, "")) == []
    monkeypatch.chdir(elsewhere)
    assert rules(first(places, "")) == [("foreign path", "elsewhere")]


def test_what_the_pth_file_of_an_installed_distribution_adds_is_its_own(places, elsewhere):
    install(places.site[0], "editable", {"editable.pth": f"# a comment\nimport os\n{elsewhere}\n"})
    assert rules(first(places, elsewhere)) == []
    (places.site[0] / "editable-1.0.dist-info/RECORD").write_text("", encoding="utf-8")
    assert rules(first(places, elsewhere)) == [("foreign path", "elsewhere")]


def test_placeholder_of_an_editable_installation_is_no_folder(places, monkeypatch, tmp_path):
    entry = "__editable__.some-thing-0.1.0.finder.__path_hook__"
    assert [rule for rule, _ in rules(first(places, entry))] == ["foreign path"]
    install(places.site[0], "some_thing", {"__editable___some_thing_0_1_0_finder.py": "x = 1\n"}, "0.1.0")
    assert rules(first(places, entry)) == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / entry).mkdir()
    assert [rule for rule, _ in rules(first(places, entry))] == ["foreign path"]


def test_two_distributions_of_one_name_are_found_even_of_one_version(places):
    metadata(places.checkout, "Alpha", "1.0")
    (one,) = look(places).differences
    assert (one.rule, one.package) == ("shadowed", "alpha")
    assert "1.0 in checkout, 1.0 in site-packages; the first hides the others" in one.message


def test_module_of_the_checkout_that_hides_another_is_found(places):
    checkout = places.checkout
    for name in ("alpha.py", "json.py", "usercustomize.py", "data.py", "beta.txt"):
        (checkout / name).write_text("", encoding="utf-8")
    (checkout / "beta").mkdir()
    assert rules(places) == [("hidden module", "alpha"), ("hidden module", "Python"), ("hidden module", "Python")]
    (checkout / "beta/__init__.py").write_text("", encoding="utf-8")
    assert ("hidden module", "beta") in rules(places)
    # after the installed ones nothing of it hides any
    assert rules(replace(places, search=(*places.search[1:], str(checkout)))) == []


@pytest.mark.parametrize(
    ("name", "found", "doubted"),
    [
        ("PYTHONHOME", True, False),
        ("PYTHONPYCACHEPREFIX", False, True),
        ("LD_PRELOAD", False, True),
        ("LD_AUDIT", False, True),
        ("DYLD_INSERT_LIBRARIES", False, True),
        ("PYTHONSTARTUP", False, False),
        ("PYTHONUNBUFFERED", False, False),
        ("PYTHONDONTWRITEBYTECODE", False, False),
    ],
)
def test_variable_that_changes_what_runs_leaves_a_trace(places, name, found, doubted):
    given = look(places, started(**{name: "value"}))
    assert [one.package for one in given.differences] == ([name] if found else [])
    assert [doubt.partition(" ")[0] for doubt in given.doubts] == ([name] if doubted else [])
    assert look(places, started(**{name: ""})) == startup.Inspected()


def test_hook_of_a_distribution_or_of_the_standard_library_is_theirs(places, elsewhere):
    install(places.site[0], "hook", {"sitecustomize.py": "x = 1\n"})
    for folder, found in ((places.site[0], []), (places.library[0], []), (elsewhere, ["start-up hook"])):
        process = Process({}, {"sitecustomize": str(folder / "sitecustomize.py")}, lambda folder: ())
        assert [rule for rule, _ in rules(places, process)] == found


def test_this_very_process_has_nothing_before_its_packages():
    places = Places.here(ROOT)
    here = Process.here(lambda folder: tracked_files(ROOT, folder))
    process = replace(here, variables={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    assert [one for one in look(places, process).differences if one.package != OURS] == []
