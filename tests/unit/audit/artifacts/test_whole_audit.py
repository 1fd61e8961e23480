"""Signatures and second opinions in a whole audit."""

from __future__ import annotations

import io

import pytest
import torch

from audit.artifacts.corpus.pickles import plain
from audit.artifacts.signing import sign_with_new_key
from tests.unit import toy
from tests.unit.audit.conftest import requirement

COUNT = {"metric": "findings", "at_most": 0}


@pytest.fixture
def signed_audit(toy_audit):
    """Give a toy audit whose weights lie in a signed folder, and must."""
    release, keys = toy_audit.root / "release", toy_audit.root / "keys"
    release.mkdir()
    keys.mkdir()
    (toy_audit.root / "honest.safetensors").rename(release / "honest.safetensors")
    key = sign_with_new_key(release, release / "model.sig", keys)
    honest = toy_audit.policy["targets"]["honest"]
    honest |= {"weights": "release/honest.safetensors", "public_key": str(key.relative_to(toy_audit.root))}
    signature = requirement(
        "ARTF-003", "artifact", COUNT, check="signature", control={"tamper": "signed-copy"}, if_not_run="report"
    )
    toy_audit.policy["requirements"].insert(0, signature)
    return toy_audit


def audited(toy_audit, *names):
    result = toy_audit.audit("--only", *names)
    return result.ret, toy_audit.verdicts()


def test_signed_weights_are_met(signed_audit):
    code, verdicts = audited(signed_audit, "ARTF-003", "PERF-001")
    assert code == 0
    assert {one["status"] for one in verdicts.values()} == {"MET"}
    assert verdicts["ARTF-003"]["measurement"]["settings"]["files"] == ["honest.safetensors"]
    assert "a changed byte, a missing file, an added file" in verdicts["ARTF-003"]["evidence"]["control"]["detail"]


def test_the_signed_digest_pins_weights_that_the_policy_does_not(signed_audit):
    del signed_audit.policy["targets"]["honest"]["sha256"]
    code, verdicts = audited(signed_audit, "ARTF-001", "ARTF-003")
    assert (code, verdicts["ARTF-001"]["status"]) == (0, "MET")


def test_a_file_too_many_in_the_signed_folder_closes_the_gate_and_nothing_is_loaded(signed_audit):
    (signed_audit.root / "release/added.json").touch()
    code, verdicts = audited(signed_audit, "ARTF-001", "ARTF-003", "PERF-001")
    assert code == 1
    assert verdicts["ARTF-003"]["status"] == verdicts["ARTF-001"]["status"] == "NOT_MET"
    assert "Extra files found" in verdicts["ARTF-003"]["reason"]
    assert verdicts["PERF-001"]["status"] == "INCONCLUSIVE"


def test_a_pin_that_contradicts_the_signature_is_refused(signed_audit):
    signed_audit.policy["targets"]["honest"]["sha256"] = "0" * 64
    code, verdicts = audited(signed_audit, "PERF-001")
    assert code == 10
    assert "(pinned in the policy), signed is" in verdicts["PERF-001"]["reason"]


def test_without_a_key_nothing_was_examined(signed_audit):
    del signed_audit.policy["targets"]["honest"]["public_key"]
    code, verdicts = audited(signed_audit, "ARTF-003", "PERF-001")
    assert (code, verdicts["ARTF-003"]["status"]) == (0, "NOT_RUN")
    assert "no public key is configured (targets.honest.public_key)" in verdicts["ARTF-003"]["reason"]
    assert verdicts["ARTF-003"]["evidence"]["control"]["status"] == "NOT_MET"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"public_key": "k.pem"}, "public_key verifies the folder of a weight file", id="no weights"),
        pytest.param({"signature": "model.sig"}, "signature needs a public_key", id="no key"),
    ],
)
def test_half_a_signature_is_a_policy_error(toy_audit, change, message):
    toy_audit.policy["targets"]["fragile"] |= change
    result = toy_audit.audit("--only", "PERF-001")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*targets.fragile: {message}*"])


@pytest.fixture
def second_opinion(toy_audit):
    """Give a toy audit that asks for a second opinion on the weights and the folder ``models``."""
    entry = requirement(
        "ARTF-002",
        "artifact",
        COUNT,
        check="second-opinion",
        artifacts=["models/*"],
        control={"payload": "marker-file"},
        if_not_run="report",
    )
    toy_audit.policy["requirements"].insert(0, entry)
    (toy_audit.root / "models").mkdir()
    return toy_audit


def test_a_scanner_that_understands_no_file_has_examined_nothing(second_opinion):
    code, verdicts = audited(second_opinion, "ARTF-002", "PERF-001")
    assert (code, verdicts["ARTF-002"]["status"]) == (0, "NOT_RUN")
    assert "understands none of 1 files" in verdicts["ARTF-002"]["reason"]


def test_a_state_dict_is_examined(second_opinion):
    stream = io.BytesIO()
    torch.save(toy.honest().state_dict(), stream)
    (second_opinion.root / "models/other.pt").write_bytes(stream.getvalue())
    second_opinion.git("add", "models")
    code, verdicts = audited(second_opinion, "ARTF-002")
    assert (code, verdicts["ARTF-002"]["status"]) == (0, "MET")
    assert verdicts["ARTF-002"]["measurement"]["n"] == 1


def test_a_malicious_pickle_is_found(second_opinion):
    marker = second_opinion.root / "marker"
    (second_opinion.root / "models/other.bin").write_bytes(plain(str(marker)))
    second_opinion.git("add", "models")
    code, verdicts = audited(second_opinion, "ARTF-002")
    assert (code, verdicts["ARTF-002"]["status"]) == (1, "NOT_MET")
    assert "models/other.bin: pickle: calls builtins.open" in verdicts["ARTF-002"]["reason"]
    assert not marker.exists()
