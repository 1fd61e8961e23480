"""Every check finds the weakness that it looks for, and nothing in a server that has none."""

from __future__ import annotations

import pytest

from audit.judge import compare
from audit.records import Status
from audit.serving import log_tampering, resources, tampering, weak_server
from audit.serving.examine import CHECKS, DESCRIBED, examined, measured
from tests.unit.audit.serving.conftest import serving_requirement

RULES = {
    "malformed-input": {"server error", "internals"},
    "resources": {"not refused", "others wait", "slow clients stay"},
    "access": {"let in", "limit evaded"},
    "tampering": {"served", "not noticed", "log verified", "log change not noticed", "started on a changed log"},
    "exposure": {"no strict CSP", "may be framed", "may be sniffed", "internals", "exposed", "path traversal"},
    "overload": {"dropped"},
    "log": {"record lost", "record late", "answer without a record"},
    "agreement": {"another class"},
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(tampering, "NOTICED_WITHIN", 2.0)
    monkeypatch.setattr(log_tampering, "NOTICED_WITHIN", 3.0)
    monkeypatch.setattr(resources, "SLOW_SECONDS", 6.0)


def test_every_check_has_a_weakness_of_its_own():
    assert set(RULES) == set(CHECKS)
    assert sorted(weak for _, weak in CHECKS.values()) == sorted(weak_server.WEAKNESSES) == sorted(DESCRIBED)


@pytest.mark.parametrize("check", CHECKS)
def test_a_server_without_weakness_passes(check, subject):
    tried = examined(serving_requirement(check), subject, "")
    assert [(one.rule, one.path, one.message) for one in tried.findings] == []
    assert [probe.detail for probe in tried.probes if not probe.passed] == []
    assert tried.n > 0
    assert tried.settings


@pytest.mark.parametrize("check", CHECKS)
def test_the_weakness_is_found(check, subject):
    requirement = serving_requirement(check)
    tried = examined(requirement, subject, CHECKS[check][1])
    assert RULES[check] <= set(tried.counts)
    assert compare(requirement.bound, measured(tried)) is Status.NOT_MET
