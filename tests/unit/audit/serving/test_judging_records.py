"""What the checks make of records, files of a log, pictures, and answers that come late or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from audit.errors import TargetError
from audit.serving import agreement, asking, lines, log_tampering, overload, preprocessing
from audit.serving.asking import Told
from audit.serving.bench import Picture
from audit.serving.client import Answer
from audit.serving.dressed import Caller
from tests.unit.audit.serving.conftest import serving_requirement
from tests.unit.audit.serving.test_judging import reply, rules, served

BODY = b'{"pixels": [1]}'
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SAID = {"class": 3, "probabilities": [0.1, 0.2, 0.7], "model_digest": "sha256:d"}
LINE = {
    "request_id": "a",
    "status": 200,
    "class": 3,
    "client": "127.0.0.1",
    "count": 1,
    "image": 0,
    "model_digest": "sha256:d",
    "input_sha256": hashlib.sha256(BODY).hexdigest(),
    "confidence": 0.7,
    "time": "2026-05-01T12:00:00.500Z",
}


def told(status=200, tail=None):
    answer = Answer(status, (), json.dumps(SAID if status == 200 else {}).encode())
    return Told("a", "127.0.0.1", BODY, answer, NOON, NOON + timedelta(seconds=1), tail)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([LINE], set()),
        ([], {"record lost"}),
        ([{**LINE, "request_id": "b"}], {"record lost"}),
        ([LINE, LINE], {"record twice"}),
        *(
            ([{**LINE, key: value}], {"record wrong"})
            for key, value in {
                "class": 4,
                "status": 503,
                "client": "203.0.113.7",
                "count": 2,
                "image": 1,
                "model_digest": "sha256:e",
                "input_sha256": None,
                "confidence": 0.2,
                "time": "2026-05-01T14:00:00.500Z",
            }.items()
        ),
        ([{**LINE, "time": "yesterday"}], {"record wrong"}),
    ],
)
def test_every_answer_has_its_line_and_every_key_of_it_fits(lines, expected):
    assert rules(asking.compare, [told()], lines) == expected


def test_a_refusal_has_no_class_and_its_body_need_not_have_been_read():
    line = {**LINE, "status": 422, "class": None, "confidence": None, "image": None}
    assert rules(asking.compare, [told(422)], [line]) == set()
    assert rules(asking.compare, [told(422)], [{**line, "input_sha256": None}]) == set()
    assert rules(asking.compare, [told(422)], [{**line, "confidence": 0.7}]) == {"record wrong"}


def test_a_line_that_was_not_there_when_its_answer_began_is_late():
    assert rules(asking.compare, [told(tail=b'{"request_id":"a"}')], [LINE]) == set()
    assert rules(asking.compare, [told(tail=b'{"request_id":"b"}')], [LINE]) == {"record late"}


def replies(status, seconds, times=10):
    return [reply(status=status, seconds=seconds) for _ in range(times)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (replies(200, 0.03), set()),
        (replies(200, 0.5), {"no refusal"}),
        ([*replies(200, 0.5), *replies(503, 0.01, 1)], set()),
        ([*replies(200, 0.03), *replies(503, 1.5)], {"refused late"}),
    ],
)
def test_a_server_that_lets_everybody_wait_is_found(given, expected):
    assert rules(overload._judge_refusals, given, 0.01) == expected


@pytest.mark.parametrize(("status", "expected"), [(200, set()), (503, {"no room for others"})])
def test_who_asks_one_question_at_a_time_must_be_answered(status, expected):
    assert rules(overload._judge_share, replies(503, 0.1), [*replies(200, 0.1), reply(status=status)]) == expected


PICTURE = Picture("a digit", "image/png", b"", (1, (0.1, 0.9)), (0.0, 0.5, 1.0))


def pictured(**changed):
    seen = base64.b64encode(bytes((0, 127, 255))).decode()
    return Answer(200, (), json.dumps({"class": 1, "probabilities": [0.1, 0.9], "seen": seen, **changed}).encode())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (pictured(), set()),
        (pictured(seen=None), set()),
        (pictured(probabilities=None), set()),
        (pictured(probabilities=[0.2, 0.8]), set()),
        (pictured(probabilities=[0.4, 0.6]), {"another class of a picture"}),
        (pictured(**{"class": 0}), {"another class of a picture"}),
        (pictured(seen=base64.b64encode(bytes((255, 127, 0))).decode()), {"another picture seen"}),
        (pictured(seen="AA=="), {"another picture seen"}),
        (pictured(seen="?"), {"another picture seen"}),
        (Answer(422, (), b"{}"), {"picture refused"}),
    ],
)
def test_a_picture_has_the_answer_that_its_drawing_has(answer, expected):
    assert rules(agreement._judge_picture, answer, PICTURE, "x") == expected


@pytest.mark.parametrize(("seconds", "expected"), [(4.9, set()), (8.0, {"late"})])
def test_an_answer_that_comes_late_is_found(seconds, expected):
    question = agreement._Question(b"", "x", (1, (0.1, 0.9)), "image 0", answer=served(), seconds=seconds)
    assert rules(agreement._judge_time, question) == expected


def agreed(monkeypatch, *answers):
    """Run the check on a server that gives each of its questions the answers named, in turn."""
    bodies = tuple(str(number).encode() for number in range(len(answers)))
    left = dict(zip(bodies, map(list, answers), strict=True))
    expected = ((1, (0.1, 0.9)),) * len(bodies)
    subject = SimpleNamespace(bodies=bodies, expected=expected, pictures=(), sha256="d")
    server = SimpleNamespace(port=1, child=SimpleNamespace(running=True))
    caller = SimpleNamespace(ask=lambda body, *_: left[body].pop(0), look="", close=lambda: None)
    monkeypatch.setattr(agreement, "Caller", lambda port, seed: caller)
    return agreement.agreement(
        SimpleNamespace(subject=subject, ordinary=lambda: nullcontext(server)), serving_requirement("agreement")
    )


def test_a_question_without_an_answer_is_asked_once_more(monkeypatch):
    assert agreed(monkeypatch, [served()], [None, served()]).counts == {}
    with pytest.raises(TargetError, match="1 of 2 questions had no answer"):
        agreed(monkeypatch, [served()], [None, None])


def test_a_question_without_an_answer_hides_no_wrong_one(monkeypatch):
    assert agreed(monkeypatch, [served(**{"class": 0})], [None, None]).counts == {"another class": 1}


def test_no_two_requests_look_alike_and_all_say_the_same():
    caller = Caller(1, 0)
    looks = {b"".join(caller._pieces("/predict", b"{}" * 300, "application/json", stays=n % 2 == 0)) for n in range(60)}
    assert len(looks) > 40
    assert any(b"chunked" in one for one in looks)
    assert any(b"agent" not in one.lower() for one in looks)
    assert all(one.lower().count(b"\r\nhost:") == 1 for one in looks)


def test_every_reading_of_a_picture_lies_in_the_middle_whatever_its_paper_and_place():
    drawn = np.zeros((28, 28), dtype=bool)
    drawn[4:24, 8:14] = drawn[18:24, 8:20] = True
    sure = torch.tensor([[0.1, 0.9]])
    made = [preprocessing._picture(drawn, form, lambda rows: sure.expand(len(rows), 2)) for form in preprocessing.FORMS]
    seen = np.stack([np.asarray(one.seen) for one in made])
    assert np.abs(seen - seen[0]).mean() < 0.02
    rows, columns = np.indices((28, 28))
    assert abs((seen[0].reshape(28, 28) * rows).sum() / seen[0].sum() - 14) <= 0.5
    assert abs((seen[0].reshape(28, 28) * columns).sum() / seen[0].sum() - 14) <= 0.5
    mirrored = preprocessing._picture(drawn[:, ::-1], preprocessing.FORMS[0], lambda rows: sure.expand(len(rows), 2))
    assert np.abs(np.asarray(mirrored.seen) - seen[0]).mean() > agreement.SEEN_APART


def test_there_are_no_pictures_of_another_shape_nor_of_what_is_not_clear():
    assert preprocessing.pictures(torch.zeros(3, 3, 32, 32), lambda rows: rows) == ()
    unsure = torch.tensor([[0.5, 0.5]])
    drawn = torch.zeros(1, 1, 28, 28)
    drawn[0, 0, 5:20, 10:14] = 1
    assert preprocessing.pictures(drawn, lambda rows: unsure.expand(len(rows), 2)) == ()


def test_lines_written_anew_are_chained_and_each_edit_of_several_files_changes_them(tmp_path):
    entries = [{"class": n % 3, "seq": n, "previous": "", "hash": ""} for n in range(12)]
    made = lines.anew([lines.written(entry, rehash=True) for entry in entries])
    read = [json.loads(line) for line in made]
    assert all(after["previous"] == before["hash"] for before, after in pairwise(read))
    for index, (what, edit) in enumerate(log_tampering.EDITS):
        folder = tmp_path / str(index)
        folder.mkdir()
        files = {"audit.jsonl.000001": made[:3], "audit.jsonl.000002": made[3:6], "audit.jsonl": made[6:]}
        for name, content in files.items():
            (folder / name).write_bytes(b"".join(content))
        edit(folder / "audit.jsonl")
        after = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert after != {name: b"".join(content) for name, content in files.items()}, what


def test_a_byte_is_exchanged_in_place_and_size_and_time_stay(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"class":3}\n')
    before = path.stat()
    log_tampering.edit_in_place(path)
    after = path.stat()
    assert path.read_bytes() == b'{"class":4}\n'
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
