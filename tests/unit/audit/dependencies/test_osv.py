"""Which versions an advisory affects: the evaluation of the OSV schema, and the doubt that widens it."""

from __future__ import annotations

import pytest
from packaging.version import Version
from pydantic import ValidationError

from audit.dependencies.osv import Advisory
from tests.unit.audit.dependencies.conftest import record


def advisory(*events, **changes):
    return Advisory.model_validate(record(events=events, **changes))


def affected(versions=(), ranges=(), name="requests", ecosystem="PyPI"):
    return {"package": {"ecosystem": ecosystem, "name": name}, "versions": versions, "ranges": ranges}


def ecosystem(*events, type="ECOSYSTEM"):
    return {"type": type, "events": list(events)}


ZERO = {"introduced": "0"}


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        pytest.param([ZERO, {"fixed": "2.0"}], ["0.0.1", "1.9.9"], ["2.0", "2.0.1"], id="fixed is outside"),
        pytest.param(
            [ZERO, {"last_affected": "2.0"}], ["2.0", "2"], ["2.0.1", "2.0.post1"], id="last affected is inside"
        ),
        pytest.param([{"introduced": "1.5"}, {"fixed": "2"}], ["1.5"], ["1.4.9", "1.5rc1"], id="introduced is inside"),
        pytest.param([ZERO, {"fixed": "2.0"}], ["2.0rc1", "2.0.dev3", "2.0a1"], [], id="pre-releases come before"),
        pytest.param([{"introduced": "2.0rc1"}], ["2.0rc1", "2.0", "99"], ["2.0b4"], id="no end"),
        pytest.param(
            [ZERO, {"fixed": "1.26.5"}, {"introduced": "2.0"}, {"fixed": "2.3"}],
            ["1.26.4", "2.0", "2.2.9"],
            ["1.26.5", "1.27", "2.3"],
            id="two intervals in one range",
        ),
        pytest.param(
            [{"fixed": "2.3"}, {"introduced": "2.0"}, {"fixed": "1.26.5"}, ZERO],
            ["1.0", "2.1"],
            ["1.30"],
            id="any order",
        ),
        pytest.param([{"introduced": "0", "fixed": "2.0"}], ["1.0"], ["2.0"], id="both in one event"),
        pytest.param([{"introduced": "1.0"}, {"fixed": "1.0"}], [], ["0.9", "1.0", "1.1"], id="an empty range"),
        pytest.param([ZERO, {"limit": "2.0"}], ["1.9"], ["2.0", "3"], id="a limit"),
        pytest.param([ZERO, {"limit": "2.0"}, {"limit": "3.0"}], ["2.5"], ["3.0"], id="the furthest of two limits"),
        pytest.param([ZERO, {"fixed": "1!1.0"}], ["2024.1"], ["1!1.0"], id="an epoch"),
    ],
)
def test_range_is_evaluated_as_the_schema_says(events, inside, outside):
    one = advisory(*events)
    assert [text for text in inside if not one.affects("requests", Version(text))] == []
    assert [text for text in outside if one.affects("requests", Version(text))] == []


@pytest.mark.parametrize(
    ("events", "version"),
    [
        pytest.param([ZERO, {"fixed": "next release"}], "99", id="end that is no version"),
        pytest.param([ZERO, {"last_affected": "v?"}], "99", id="last that is no version"),
        pytest.param([{"introduced": "2004d?"}, {"fixed": "2"}], "0.1", id="beginning that is no version"),
        pytest.param([{"fixed": "2"}], "1", id="end without a beginning"),
    ],
)
def test_doubt_widens_what_is_affected(events, version):
    assert advisory(*events).affects("requests", Version(version))


def test_build_of_a_release_has_the_holes_of_the_release():
    """2.5.1+cpu sorts after 2.5.1; a bound of 2.5.1 would miss it, and a list of versions too."""
    build = Version("2.5.1+cpu")
    assert advisory(ZERO, {"last_affected": "2.5.1"}).affects("requests", build)
    assert Advisory.model_validate(record(affected=[affected(["2.5.1"])])).affects("requests", build)
    assert not advisory(ZERO, {"fixed": "2.5.1"}).affects("requests", build)


def test_listed_version_is_affected_whatever_the_ranges_say():
    one = Advisory.model_validate(
        record(affected=[affected(["3.0.0", "not a version"], [ecosystem(ZERO, {"fixed": "2"})])])
    )
    assert [text for text in ("1.0", "2.0", "3", "3.0.1") if one.affects("requests", Version(text))] == ["1.0", "3"]


def test_ranges_of_versions_count_and_ranges_of_commits_do_not():
    ranges = [ecosystem(ZERO, type="GIT"), ecosystem({"introduced": "5"}, {"fixed": "6"}, type="SEMVER")]
    one = Advisory.model_validate(record(affected=[affected(ranges=ranges)]))
    assert [text for text in ("4", "5", "6") if one.affects("requests", Version(text))] == ["5"]


def test_several_entries_for_one_package_all_count():
    entries = [
        affected(ranges=[ecosystem({"introduced": low}, {"fixed": high})]) for low, high in (("1", "2"), ("5", "6"))
    ]
    one = Advisory.model_validate(record(affected=entries))
    assert [text for text in ("1.5", "3", "5.5") if one.affects("requests", Version(text))] == ["1.5", "5.5"]
    assert one.answer("requests")["affected"][0]["ranges"][0]["events"] == [{"fixed": "2"}, {"fixed": "6"}]


@pytest.mark.parametrize(("told", "name"), [("Ruamel.YAML", "ruamel-yaml"), ("typing_extensions", "typing-extensions")])
def test_names_are_compared_in_their_canonical_form(told, name):
    one = Advisory.model_validate(record(told))
    assert one.affects(name, Version("1.0"))
    assert one.answer(name)["affected"][0]["package"]["name"] == name


def test_other_packages_other_ecosystems_and_withdrawn_records_affect_nothing():
    assert not advisory(ZERO).affects("requests-oauthlib", Version("1"))
    assert not Advisory.model_validate(record(affected=[affected(["1"], ecosystem="npm")])).affects(
        "requests", Version("1")
    )
    assert not Advisory.model_validate(record(affected=[{"versions": ["1"]}])).names
    assert not advisory(ZERO, withdrawn="2025-01-01T00:00:00Z").affects("requests", Version("1"))
    assert not Advisory.model_validate(record(affected=None, aliases=None)).names


@pytest.mark.parametrize(
    "changes", [{"id": "../../etc/passwd"}, {"id": ".hidden"}, {"modified": None}, {"affected": "all"}]
)
def test_malformed_record_is_refused(changes):
    with pytest.raises(ValidationError):
        Advisory.model_validate(record(**changes))
