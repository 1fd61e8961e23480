"""What a register may say: every malformed one is an error that names its place."""

from __future__ import annotations

import pytest
import yaml

from audit.errors import PolicyError
from audit.register import read_register
from tests.unit.audit.register.conftest import ACCEPTED, THREAT, plain


def read(tmp_path, register):
    file = tmp_path / "stride.yaml"
    file.write_text(yaml.safe_dump(register), encoding="utf-8")
    return read_register(file)


def test_threats_come_in_order(tmp_path):
    register = plain()
    register["elements"][1]["cells"] |= {"E": [THREAT | {"id": "T-SERV-E-1"}], "S": [THREAT | {"id": "T-SERV-S-1"}]}
    assert [one.id for one in read(tmp_path, register).threats()] == ["T-FILE-T-1", "T-SERV-S-1", "T-SERV-E-1"]


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        pytest.param(THREAT | {"requirements": []}, "mitigated needs mitigation and requirements", id="no requirement"),
        pytest.param(THREAT | {"mitigation": None}, "mitigated needs mitigation and requirements", id="no mitigation"),
        pytest.param(THREAT | {"owner": "me"}, "mitigated has no owner, reason or expires", id="mitigated, owned"),
        pytest.param(ACCEPTED | {"owner": None}, "accepted needs owner and reason", id="accepted without owner"),
        pytest.param(ACCEPTED | {"reason": ""}, "accepted needs owner and reason", id="accepted without reason"),
        pytest.param(ACCEPTED | {"expires": None}, "accepted needs expires, the last day", id="accepted for ever"),
        pytest.param(
            ACCEPTED | {"requirements": ["EVA-001"]}, "only a mitigated threat names requirements", id="half mitigated"
        ),
        pytest.param(
            ACCEPTED | {"status": "transferred", "owner": None}, "transferred needs owner and reason", id="to nobody"
        ),
        pytest.param(
            ACCEPTED | {"status": "transferred", "expires": None},
            "transferred needs expires, the last day",
            id="transferred for ever",
        ),
        pytest.param(THREAT | {"id": "T-1"}, "match pattern", id="bad id"),
        pytest.param(THREAT | {"impact": "dire"}, "impact: Input should be 'low', 'medium'", id="bad impact"),
        pytest.param(THREAT | {"likelihood": "often"}, "likelihood: Input should be 'rare'", id="bad likelihood"),
        pytest.param(THREAT | {"attacker": ""}, "attacker: String should have at least 3", id="no attacker"),
    ],
)
def test_malformed_threat_is_a_policy_error(tmp_path, threat, message):
    with pytest.raises(PolicyError, match=message):
        read(tmp_path, plain(threat))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda one: one["elements"][1].update(id="model-file"),
            r"id of its own \(got model-file twice\)",
            id="twice",
        ),
        pytest.param(
            lambda one: one["elements"][0].update(boundary="nowhere"),
            r"model-file.boundary: expected one of here, there \(got 'nowhere'\)",
            id="no boundary",
        ),
        pytest.param(
            lambda one: one["flows"][1].update(target="nobody"),
            r"flows\[1\]: expected an element or a party \(got 'nobody'\)",
            id="flow to nowhere",
        ),
        pytest.param(
            lambda one: one["flows"][0].update(target="model-file"),
            r"flows\[0\]: expected two different ends",
            id="loop",
        ),
        pytest.param(
            lambda one: one["elements"][0].pop("reviewed"), r"elements\[0\].reviewed: Field required", id="no review"
        ),
        pytest.param(lambda one: one.update(schema_version=1), "schema_version: Input should be 2", id="the old shape"),
    ],
)
def test_malformed_register_is_a_policy_error(tmp_path, change, message):
    register = plain()
    change(register)
    with pytest.raises(PolicyError, match=message):
        read(tmp_path, register)
