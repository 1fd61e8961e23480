"""Ids of catalogues: what is well formed, and what is none of ATLAS 5.6."""

from __future__ import annotations

import pytest

from audit.references import ATLAS, problem


@pytest.mark.parametrize(
    "reference",
    [
        "CWE-79",
        "CWE-1395",
        "ML01:2023",
        "ML10:2023",
        "AML.T0000",
        "AML.T0043.004",
        "AML.T0112.001",
        "AML.M0034",
        "NISTAML.01",
        "NISTAML.022",
        "NISTAML.051",
    ],
)
def test_well_formed_id_has_no_problem(reference):
    assert problem(reference) is None


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "CWE-79\n",
        *[
            "CWE-0",
            "CWE-79a",
            "CWE-12345",
            "cwe-79",
            "ML00:2023",
            "ML11:2023",
            "ML01:2024",
            "T0043",
            "NISTAML.06",
            "NISTAML.22",
        ],
    ],
)
def test_malformed_id_is_told_with_what_was_expected(reference):
    assert problem(reference).startswith("expected CWE-502, ML06:2023, AML.T0011.000 or NISTAML.022")


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("AML.T0045", id="withdrawn: ML Intellectual Property Theft"),
        pytest.param("AML.T0009", id="never in ATLAS"),
        pytest.param("AML.T0113", id="of a later version"),
        pytest.param("AML.T0043.005", id="no such sub-technique"),
        pytest.param("AML.T0011.0", id="malformed"),
        pytest.param("AML.M0035", id="no such mitigation"),
        pytest.param("AML.TA0001", id="a tactic"),
    ],
)
def test_id_that_atlas_5_6_does_not_have_is_told(reference):
    assert problem(reference) == f"{reference} is no technique or mitigation of MITRE ATLAS 5.6"


def test_atlas_5_6_has_170_techniques_and_35_mitigations():
    assert sum(one.startswith("AML.T") for one in ATLAS) == 170
    assert sum(one.startswith("AML.M") for one in ATLAS) == 35
