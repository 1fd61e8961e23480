"""What is installed, and from where: every distribution once, never a path."""

from __future__ import annotations

import json
import sys

import pytest

from audit.dependencies.environment import NAMELESS, Installed, installed

PASSWORD = "-".join(["correct", "horse"])  # no literal: see STAT-003


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give a function that puts a distribution's metadata into a folder that alone is searched."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "here"), ""])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def put(name, version, direct_url=None, parent=site):
        folder = parent / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"{key}: {value}" for key, value in (("Name", name), ("Version", version)) if value]
        (folder / "METADATA").write_text("\n".join(lines), encoding="utf-8")
        if direct_url is not None:
            text = direct_url if isinstance(direct_url, str) else json.dumps(direct_url)
            (folder / "direct_url.json").write_text(text, encoding="utf-8")

    return put


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (None, None),
        ({"url": "file:///home/me/x", "dir_info": {"editable": True}}, "editable"),
        ({"url": "file:///home/me/x", "dir_info": {}}, "directory"),
        ({"url": f"https://user:{PASSWORD}@host/x.whl", "archive_info": {}}, "archive"),
        ({"url": "https://host/x.git", "vcs_info": {"vcs": "git"}}, "version control"),
        ("not json", "unreadable direct URL"),
        ([1], "unreadable direct URL"),
    ],
)
def test_source_is_told_and_its_address_is_not(place, direct_url, source):
    place("Some.Package", "1.0", direct_url)
    assert installed() == (Installed(name="some-package", version="1.0", source=source),)


def test_two_versions_of_one_package_and_leftovers_without_a_name_are_seen(place):
    place("b", "1.0")
    place("B", "2.0")
    place("a", "1.0")
    place("", "3.0")
    assert [(one.name, one.version) for one in installed()] == [
        (NAMELESS, "3.0"),
        ("a", "1.0"),
        ("b", "1.0"),
        ("b", "2.0"),
    ]


def test_what_a_build_left_in_the_working_folder_is_not_installed(place, tmp_path):
    place("ours", "0.1", parent=tmp_path / "here")
    assert installed() == ()
