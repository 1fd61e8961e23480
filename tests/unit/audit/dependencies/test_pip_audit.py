"""The real pip-audit client against services on loopback: vulnerable, clean, slow, broken, and talking nonsense."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version

import pytest

from audit.dependencies import advisories, pip_audit
from audit.dependencies.pip_audit import Pin, Service
from audit.errors import ScannerFailed, ScannerMissing
from tests.unit.audit.dependencies.conftest import record, standing_in

REQUESTS = Pin(package="requests", version="2.19.1")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(pip_audit, "WAITS", (0.0, 0.0))


def test_snapshot_is_asked_by_the_real_client(make_snapshot):
    twins = record(
        "ruamel.yaml", "PYSEC-2099-7", ({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2"}, {"fixed": "3"})
    )
    snapshot = advisories.read(make_snapshot(record(), {**twins, "aliases": ["GHSA-aaaa-bbbb-cccc", "CVE-2099-7"]}))
    pins = [REQUESTS, Pin(package="Ruamel_YAML", version="2.5"), Pin(package="numpy", version="2.0.0")]
    with pip_audit.service(snapshot) as service:
        scan = pip_audit.audit_pins(service, pins)
    assert [one.package for one in scan.audited] == ["requests", "ruamel-yaml", "numpy"]
    assert scan.skipped == ()
    first, second = scan.vulnerabilities
    assert (first.package, first.version, first.id, first.fixed) == ("requests", "2.19.1", "PYSEC-2018-28", ("2.20.0",))
    assert (second.id, second.aliases, second.fixed) == (
        "PYSEC-2099-7",
        ("CVE-2099-7", "GHSA-aaaa-bbbb-cccc"),
        ("1.0", "3"),
    )
    assert first.finding.message == "fixed in 2.20.0 (also CVE-2018-18074)"


def test_service_that_fails_is_asked_again():
    answer = {"vulns": [record()]}
    with standing_in((500, "oops"), (503, "oops"), (200, answer)) as (asked, service):
        scan = pip_audit.audit_pins(service, [REQUESTS])
    assert [one.id for one in scan.vulnerabilities] == ["PYSEC-2018-28"]
    assert len(asked.queries) == 3


def test_answer_is_not_asked_for_again():
    """That nothing is known is an answer too."""
    with standing_in((200, {}), (200, {"vulns": [record()]})) as (asked, service):
        scan = pip_audit.audit_pins(service, [REQUESTS])
    assert (scan.audited, scan.vulnerabilities) == ((REQUESTS,), ())
    assert asked.queries == [{"package": {"name": "requests", "ecosystem": "PyPI"}, "version": "2.19.1"}]


def test_service_that_fails_for_ever_gives_no_answer():
    with (
        standing_in((500, "oops")) as (asked, service),
        pytest.raises(ScannerMissing, match=r"tries: 3; .*ServiceError"),
    ):
        pip_audit.audit_pins(service, [REQUESTS])
    assert len(asked.queries) == 3


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        pytest.param(5, ScannerMissing, r"gave no answer .*Read timed out", id="slow"),
        pytest.param((200, "<html>please log in</html>"), ScannerFailed, "nonsense .*JSONDecodeError", id="a page"),
        pytest.param((200, ["no", "record"]), ScannerFailed, "nonsense .*TypeError", id="a list"),
        pytest.param((200, {"vulns": [{}]}), ScannerFailed, "nonsense .*KeyError", id="an empty record"),
    ],
)
def test_slow_service_and_nonsense_are_no_clean_bill(monkeypatch, answer, error, message):
    monkeypatch.setattr(pip_audit, "WAITS", ())
    monkeypatch.setattr(pip_audit, "SOCKET_SECONDS", 1)
    with standing_in(answer) as (_, service), pytest.raises(error, match=message):
        pip_audit.audit_pins(service, [REQUESTS])


def test_service_that_is_not_there_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(pip_audit, "WAITS", ())
    with standing_in((200, {})) as (_, service):
        gone = service
    with pytest.raises(ScannerMissing, match=r"no answer \(tries: 1; .*ConnectionError"):
        pip_audit.audit_pins(gone, [REQUESTS])


def test_waits_grow(monkeypatch):
    slept = []
    monkeypatch.setattr(pip_audit, "WAITS", (2.0, 8.0))
    monkeypatch.setattr(pip_audit, "sleep", slept.append)
    monkeypatch.setattr(pip_audit, "COMMAND", (sys.executable, "-c", "raise SystemExit('ConnectionError: no route')"))
    with pytest.raises(
        ScannerMissing, match=r"\(tries: 3; the last one ended with exit 1: ConnectionError: no route\)"
    ):
        pip_audit.audit_pins(Service("none", (), dict(os.environ)), [REQUESTS])
    assert slept == [2.0, 8.0]


def test_variables_cannot_turn_the_client_to_another_service_or_interpreter(monkeypatch, make_snapshot):
    for name in ("PIP_AUDIT_OSV_URL", "PIP_AUDIT_OUTPUT", "PIPAPI_PYTHON_LOCATION"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pip_audit.service(advisories.read(make_snapshot())) as service:
        assert not {"PIP_AUDIT_OSV_URL", "PIP_AUDIT_OUTPUT", "PIPAPI_PYTHON_LOCATION"} & set(service.environment)
        assert len(pip_audit.audit_pins(service, [REQUESTS]).vulnerabilities) == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"dependencies": [{"name": "x", "version": "1", "vulns": null}]}', '{"dependencies": [{"name": "x"}]}'],
    ids=["none", "list", "null", "no version"],
)
def test_unreadable_report_is_a_failure(text):
    with pytest.raises(ScannerFailed, match="pip-audit: expected its JSON report"):
        pip_audit.parse(text)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Give a function that puts a program of ours in the place of pip-audit."""

    def put(script):
        (tmp_path / "stand_in.py").write_text(script, encoding="utf-8")
        monkeypatch.setattr(pip_audit, "COMMAND", (sys.executable, str(tmp_path / "stand_in.py")))
        with pip_audit.service(None) as service:
            return pip_audit.audit_environment(service, tmp_path)

    return put


def reporting(package, version):
    """Return a program that says of one package that it was audited, and is clean."""
    told = json.dumps({"dependencies": [{"name": package, "version": version, "vulns": []}]})
    return f"print({told!r})"


def test_client_that_is_not_installed_is_missing(stand_in):
    with pytest.raises(ScannerMissing, match="expected in this environment, not found"):
        stand_in("import sys; sys.exit('No module named pip_audit')")


def test_client_that_says_something_else_is_a_failure(stand_in):
    with pytest.raises(ScannerFailed, match="expected its JSON report"):
        stand_in("print('all is well')")


def test_client_that_crashes_is_a_failure(stand_in):
    with pytest.raises(ScannerFailed, match=r"it broke, or .* \(tries: 3; the last one .* exit 1: ZeroDivisionError"):
        stand_in("1 / 0")


def test_client_that_does_not_end_is_a_failure(stand_in, monkeypatch):
    monkeypatch.setattr(pip_audit, "SECONDS", 0.3)
    with pytest.raises(ScannerFailed, match=r"no answer within 0\.3 s"):
        stand_in("import time; time.sleep(30)")


def test_package_that_the_client_does_not_mention_was_not_audited(stand_in):
    scan = stand_in(reporting("Torch", version("torch")))
    assert [one.package for one in scan.audited] == ["Torch"]
    assert "torch" not in {one.package for one in scan.skipped}
    (numpy,) = (one for one in scan.skipped if one.package == "numpy")
    assert numpy.reason == "installed, but not in pip-audit's report"


def test_version_that_another_of_its_name_hides_was_not_audited(stand_in):
    """Metadata that lie before the installed ones are what the client sees: of what they hide it says nothing."""
    scan = stand_in(reporting("Torch", "9999.0"))
    assert [one.version for one in scan.skipped if one.package == "torch"] == [version("torch")]
