"""DEP-002: installed files are those that their distributions recorded, and each has an owner."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest

from audit.dependencies import digests, recorded
from audit.dependencies.environment import located
from audit.dependencies.installation import inspect
from audit.dependencies.planted import flip, found, install, sound, started
from audit.requirements import UnownedFile


@pytest.fixture
def places(tmp_path):
    """Give a small, sound environment."""
    return sound(tmp_path / "here")


@pytest.fixture
def site(places):
    """Give its folder of installed packages."""
    return places.site[0]


@pytest.fixture
def look(places, tmp_path):
    """Give a function that inspects it."""
    memory = tmp_path / "memory.json"
    return lambda *accepted: inspect(places, located(places.search), started(), accepted, memory)


def write(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_sound_environment_has_nothing_in_it(look):
    given = look()
    assert (given.differences, given.doubts, given.accepted) == ((), (), ())
    assert given.shown["files"] == 8
    assert given.shown["bytes"] == given.shown["bytes_read"] > 100


def test_tampered_environment_shows_each_way_of_tampering():
    assert len({one.rule for one in found()}) == 11


def test_one_byte_of_an_installed_file_is_found_where_size_and_time_are_kept_and_digests_remembered(
    look, site, monkeypatch
):
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    path = site / "alpha/__init__.py"
    look()
    assert look().shown["bytes_read"] == 0
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of the file system ticks
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    flip(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    (difference,) = look().differences
    assert (difference.rule, difference.package) == ("changed", "alpha")
    assert difference.path == "site-packages/alpha/__init__.py"
    assert "alpha 1.0: 1 files of its RECORD are not what was installed" in difference.message


def change(site):
    (site / "alpha/data.bin").write_text("1" * 64, encoding="utf-8")


def remove(site):
    (site / "alpha/data.bin").unlink()


def pipe(site):
    remove(site)
    os.mkfifo(site / "alpha/data.bin")


def link_away(site):
    (site / "alpha").rename(site.parent / "moved")
    (site / "alpha").symlink_to(site.parent / "moved")


def rewrite(site):
    """Change what METADATA says, which decides what is looked up."""
    path = site / "alpha-1.0.dist-info/METADATA"
    path.write_text(path.read_text().replace("Version: 1.0", "Version: 1.1"), encoding="utf-8")


def module(site):
    write(site / "evil.py")


def package(site):
    for name in ("__init__.py", "one.py", "deep/two.py", "deep/three.txt", "four.py"):
        write(site / "evil" / name)


def beside(site):
    write(site / "alpha/evil.py")


def native(site):
    write(site / "evil.cpython-311-x86_64-linux-gnu.so")


def bytecode_without_source(site):
    write(site / "evil.pyc")


def source_among_bytecode(site):
    write(site / "alpha/__pycache__/evil.py")


def start_up(site):
    write(site / "evil.pth", b"import evil\n")


def egg(site):
    write(site / "evil-1.0.egg-info/PKG-INFO", b"Name: evil\nVersion: 1.0\n")


def metadata_only(site):
    write(site / "evil-1.0.dist-info/METADATA", b"Name: evil\nVersion: 1.0\n")


def no_digest(site):
    install(site, "evil", {"evil.py": ""})
    rewritten(site, lambda line: "evil.py,,\n" if line.startswith("evil.py,") else line)


def weak_digest(site):
    install(site, "evil", {"evil.py": ""})
    rewritten(site, lambda line: "evil.py,md5=AAAAAAAAAAAAAAAAAAAAAA,0\n" if line.startswith("evil.py,") else line)


def garbage(site):
    install(site, "evil", {})
    rewritten(site, lambda line: '"' + line)


def outside(site):
    install(site, "evil", {})
    with (site / "evil-1.0.dist-info/RECORD").open("a", encoding="utf-8") as stream:
        stream.write(f"../../../../../../etc/passwd,sha256={'A' * 43},1\n")


def rewritten(site, how):
    path = site / "evil-1.0.dist-info/RECORD"
    path.write_text("".join(map(how, path.read_text().splitlines(keepends=True))), encoding="utf-8")


@pytest.mark.parametrize(
    ("tamper", "rule", "words"),
    [
        (change, "changed", "1 files of its RECORD are not what was installed: site-packages/alpha/data.bin"),
        (remove, "gone", "1 files of its RECORD are not there: site-packages/alpha/data.bin"),
        (pipe, "changed", "site-packages/alpha/data.bin"),
        (link_away, "unowned", "alpha: no distribution owns site-packages/alpha"),
        (rewrite, "changed", "site-packages/alpha-1.0.dist-info/METADATA"),
        (module, "unowned", "evil.py: no distribution owns site-packages/evil.py"),
        (package, "unowned", "site-packages/evil/four.py and 1 more; remove it, or accept it under unowned"),
        (beside, "unowned", "no distribution owns site-packages/alpha/evil.py"),
        (native, "unowned", "evil.cpython-311"),
        (bytecode_without_source, "unowned", "evil.pyc"),
        (source_among_bytecode, "unowned", "alpha/__pycache__/evil.py"),
        (start_up, "unowned", "evil.pth, and runs whenever Python starts"),
        (egg, "no record", "evil 1.0: its metadata are installed without a RECORD"),
        (metadata_only, "no record", "evil 1.0: its metadata are installed without a RECORD"),
        (outside, "bad record", "files outside of the environment, which were not read: .../passwd"),
    ],
)
def test_what_is_not_as_it_was_installed_is_one_finding(look, site, tamper, rule, words):
    tamper(site)
    given = look()
    (difference,) = given.differences
    assert difference.rule == rule
    assert words in difference.message
    assert str(site) not in difference.message
    assert given.doubts == ()


def test_record_that_is_garbage_is_a_finding(look, site):
    garbage(site)
    assert {one.rule for one in look().differences} == {"no record", "unowned"}


@pytest.mark.parametrize("tamper", [no_digest, weak_digest])
def test_file_without_a_digest_in_its_record_is_a_doubt(look, site, tamper):
    tamper(site)
    given = look()
    assert given.differences == ()
    assert given.doubts == (
        "no RECORD has the SHA-256 of site-packages/evil.py: install what owns them again, with pip or uv",
    )


def test_digest_is_not_wanted_of_what_is_not_there_or_says_nothing(look, site):
    """As virtualenv copies pip: bytecode that was never written, folders, and a marker."""
    install(site, "pip", {"pip/__init__.py": "", "pip-1.0.virtualenv": "", "pip/__pycache__/old.cpython-311.pyc": ""})
    bare = ("pip-1.0.virtualenv", "pip-1.0.dist-info/INSTALLER", "pip/__init__.cpython-311.pyc", "pip/__pycache__")
    path = site / "pip-1.0.dist-info/RECORD"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(bare)]
    path.write_text("\n".join([*kept, *(f"{name},," for name in bare)]), encoding="utf-8")
    given = look()
    assert (given.differences, given.doubts) == ((), ())


@pytest.mark.parametrize("name", ["alpha-1.0.dist-info/RECORD", "alpha/data.bin"])
def test_what_cannot_be_read_is_a_doubt(look, site, name):
    (site / name).unlink()
    (site / name).symlink_to((site / name).name)
    doubts = " ".join(look().doubts)
    assert "alpha 1.0: its RECORD cannot be read" in doubts or f"cannot be read: site-packages/{name}" in doubts


def test_environment_without_any_record_is_a_doubt(look, site):
    for path in site.glob("*.dist-info/RECORD"):
        path.unlink()
    assert "no installed file was held to a record" in look().doubts


def test_bytecode_of_an_installed_module_needs_no_record_unless_it_is_never_checked(look, site):
    cached = site / "alpha/__pycache__/__init__.cpython-311.pyc"
    for flags in (0, 3):  # held against the time of its source, or against its digest
        write(cached, b"\xa7\r\r\n" + flags.to_bytes(4, "little") + bytes(8))
        assert look().differences == ()
    write(cached, b"\xa7\r\r\n" + (1).to_bytes(4, "little") + bytes(8))
    assert [one.rule for one in look().differences] == ["unchecked bytecode"]


def test_bytecode_that_pip_lists_without_a_digest_is_no_bad_record(look, site):
    write(site / "alpha/__pycache__/__init__.cpython-311.pyc", b"\xa7\r\r\n" + bytes(12))
    with (site / "alpha-1.0.dist-info/RECORD").open("a", encoding="utf-8") as stream:
        stream.write("alpha/__pycache__/__init__.cpython-311.pyc,,\n")
    assert look().differences == ()


def test_file_that_two_distributions_own_is_that_of_either(look, site):
    install(site, "first", {"shared/__init__.py": "a = 1\n"})
    install(site, "second", {"shared/__init__.py": "a = 2\n"})
    assert look().differences == ()
    (site / "shared/__init__.py").write_text("a = 3\n", encoding="utf-8")
    assert [(one.rule, one.package) for one in look().differences] == [("changed", "first")]


def test_name_that_is_quoted_in_a_record_is_read(look, site):
    install(site, "comma", {"comma/a.py": "x = 1\n"})
    (site / "comma/a.py").rename(site / "comma/a,b.py")
    path = site / "comma-1.0.dist-info/RECORD"
    path.write_text(path.read_text().replace("comma/a.py", '"comma/a,b.py"'), encoding="utf-8")
    assert look().differences == ()


def test_unowned_file_is_accepted_byte_for_byte_and_the_report_lists_it(look, site):
    write(site / "_virtualenv.pth", b"import _virtualenv")
    digest = hashlib.sha256(b"import _virtualenv").hexdigest()
    accepted = UnownedFile(path="_virtualenv.pth", sha256=digest, reason="an older virtualenv made it")
    given = look(accepted)
    assert given.differences == ()
    (one,) = given.accepted
    assert (one.what, one.path, one.reason) == ("unowned", "site-packages/_virtualenv.pth", accepted.reason)
    (site / "_virtualenv.pth").write_bytes(b"import os; evil()")
    (difference,) = look(accepted).differences
    assert difference.rule == "unowned"
    assert hashlib.sha256(b"import os; evil()").hexdigest() in difference.message


def test_acceptance_covers_no_file_that_a_distribution_owns(look, site):
    flip(site / "alpha/data.bin")
    digest = hashlib.sha256((site / "alpha/data.bin").read_bytes()).hexdigest()
    given = look(UnownedFile(path="alpha/data.bin", sha256=digest, reason="it was edited by hand"))
    assert [one.rule for one in given.differences] == ["changed"]


def test_nothing_outside_of_the_environment_is_read(places, site):
    outside(site)
    own = recorded.read(replace(places, prefix=site.parent))
    assert all(path.startswith(str(site.parent)) for path in own.lines)
