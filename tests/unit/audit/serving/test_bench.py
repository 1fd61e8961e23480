"""Servers are started, lent and ended; one that does not come up says why, without paths of this machine."""

from __future__ import annotations

import dataclasses
import json

import pytest
from pydantic import ValidationError

from audit.errors import TargetError
from audit.requirements import ServerSpec
from audit.serving.bench import Bench, Shared, Tried, entries, together
from audit.serving.stand_in import weak_subject
from tests.unit.audit.serving.conftest import server_spec


def failing(subject, text):
    return dataclasses.replace(subject, spec=server_spec("-c", text, "{settings}", "{weights_folder}"))


def started(subject, folder):
    with Bench(subject, folder).serving() as server:
        return server


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "bench"
    place.mkdir()
    return place


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param("import sys; sys.exit('weights refused')", "weights refused", id="it ends"),
        pytest.param("print('hello', flush=True); import time; time.sleep(60)", "hello", id="it says something else"),
        pytest.param("print('serving on http://192.0.2.1:80', flush=True)", "192.0.2.1", id="not on loopback"),
    ],
)
def test_a_server_that_does_not_come_up_says_why(subject, folder, program, reason):
    with pytest.raises(TargetError, match=f"the server did not start: .*{reason}"):
        started(failing(subject, program), folder)


def test_the_reason_has_no_path_of_this_machine(subject, folder):
    with pytest.raises(TargetError) as refused:
        started(failing(subject, "import sys; sys.exit('no good: ' + sys.argv[2])"), folder)
    assert str(folder) not in str(refused.value)
    assert "no good: /weights" in str(refused.value)


def test_the_server_has_a_copy_of_weights_and_manifest_and_its_settings(subject, folder):
    look = "import sys, os, pathlib; said = pathlib.Path(sys.argv[1]).read_text(); "
    look += "sys.exit(said + ' '.join(sorted(os.listdir(sys.argv[2]))))"
    with pytest.raises(TargetError, match=r'"rate_per_minute": 1000000}w\.json w\.safetensors'):
        started(failing(subject, look), folder)


def test_no_token_is_an_error(subject, folder):
    with pytest.raises(TargetError, match="no token was made"):
        Bench(subject, folder).make_token(folder / "tokens.json", "a", "predict")


def test_the_shared_server_is_one_until_it_dies(subject, folder):
    shared = Shared(weak_subject(subject, "", folder))
    try:
        first = shared.server()
        assert shared.server() is first
        assert first.answers(subject.bodies[0])
        first.child.kill()
        second = shared.server()
        assert second is not first
        assert second.answers(subject.bodies[0])
    finally:
        shared.close()
    assert not second.child.running
    assert not second.log.exists()


def test_an_unknown_place_in_a_command_is_refused():
    with pytest.raises(ValidationError, match=r"expected places among .* \(got \{port\}\)"):
        ServerSpec(
            command=("--port", "{port}"),
            without_tokens=(),
            with_tokens=(),
            make_token=("x",),
            expiring=(),
            verify_log=("x",),
        )


def test_all_findings_are_counted_and_the_first_are_told():
    tried = Tried()
    for _ in range(40):
        tried.add("a rule", "/predict", "message")
    assert (len(tried.findings), tried.counts) == (25, {"a rule": 40})


def test_findings_of_a_part_are_counted_too():
    tried, part = Tried(), Tried()
    tried.add("a rule", "/", "one")
    part.add("a rule", "/", "two")
    tried.take(part)
    assert (len(tried.findings), tried.counts) == (2, {"a rule": 2})


def test_lines_of_rotated_logs_count_and_neither_torn_ones_nor_anchors_do(tmp_path):
    log = tmp_path / "audit.jsonl"
    log.write_text(json.dumps({"request_id": "2"}) + "\nno JSON\n[1]\n" + '{"request_id": "3"', encoding="utf-8")
    (tmp_path / "audit.jsonl.000001").write_text('{"request_id": "1"}\n', encoding="utf-8")
    (tmp_path / "audit.jsonl.torn-1").write_text('{"request_id": "4"}\n', encoding="utf-8")
    (tmp_path / "audit.jsonl.anchors").write_text('{"seq": 2}\n', encoding="utf-8")
    assert sorted(one["request_id"] for one in entries(log)) == ["1", "2"]


def test_results_come_in_the_order_of_the_questions():
    assert together(range(50), 4, lambda one: one * one) == [one * one for one in range(50)]


def test_a_token_that_cannot_be_revoked_is_an_error(subject, folder):
    weak = weak_subject(subject, "", folder)
    spec = weak.spec.model_copy(update={"revoke_token": ("-c", "import sys; sys.exit('no such name')")})
    with pytest.raises(TargetError, match="a token could not be revoked: no such name"):
        Bench(dataclasses.replace(weak, spec=spec), folder).revoke_token(folder / "tokens.json", "a")
