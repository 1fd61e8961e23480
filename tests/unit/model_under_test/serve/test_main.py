"""The command line as a user meets it: real processes, real signals, real exit codes."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import threading

import pytest

from model_under_test.serve import __main__ as command
from model_under_test.serve import chain, tokens
from tests.unit.model_under_test.serve.conftest import drawing
from tests.unit.model_under_test.serve.test_app import PIXELS, records
from tests.unit.model_under_test.serve.test_model import swap


def ask(address, method, path, body=None, **headers):
    """Return status and JSON."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()


def post(address, body, kind, **headers):
    """Return status and JSON of a prediction."""
    return ask(address, "POST", "/predict", body, **{"Content-Type": kind}, **headers)


def test_a_newcomer_makes_a_token_and_gets_a_seven_recognised(start, tmp_path, capsys):
    file = tmp_path / "tokens.json"
    code, token, _ = in_process(capsys, "token", "--tokens", file, "--name", "alice", "--scope", "predict")
    assert code == 0
    process, address = start(access=("--tokens", str(file)))
    assert post(address, drawing(7), "image/png")[0] == 401
    status, found = post(address, drawing(7), "image/png", Authorization=f"Bearer {token.strip()}")
    assert (status, found["class"]) == (200, 7)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()
    assert process.stdout.read() == ""
    assert [(one["client"], one["class"]) for one in records(tmp_path)] == [("127.0.0.1", None), ("alice", 7)]


def test_killed_in_the_middle_of_load_every_answer_has_its_record(start, tmp_path):
    process, address = start("--settings", settings(tmp_path, rate_per_minute=100_000, log_bytes=20_000))
    answered, body, enough = [], json.dumps(PIXELS).encode(), threading.Event()

    def load():
        while True:
            try:
                answered.append(post(address, body, "application/json")[1]["request_id"])
            except (OSError, http.client.HTTPException):
                return
            if len(answered) > 150:
                enough.set()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)
    process.kill()
    for thread in threads:
        thread.join()
    process.wait(30)
    log = tmp_path / "audit.jsonl"
    with log.open("ab") as file:
        file.write(b'{"class":7,"cli')  # as if the kill had struck in the middle of a line
    again, address = start()
    answered.append(post(address, body, "application/json")[1]["request_id"])
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 0
    assert (tmp_path / "audit.jsonl.torn-1").read_bytes() == b'{"class":7,"cli'
    lines = [json.loads(line) for one in (*chain.earlier(log), log) for line in one.read_bytes().splitlines()]
    assert chain.verify(log) == len(lines)
    assert set(answered) <= {one["request_id"] for one in lines}
    assert len(chain.earlier(log)) > 2


def settings(folder, **values):
    (folder / "settings.yaml").write_text(json.dumps(values))
    return folder / "settings.yaml"


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))


def test_a_full_disk_stops_predictions_and_turns_readiness_red(start, tmp_path):
    _, address = start(preexec_fn=limit_files)
    body, found = json.dumps(PIXELS).encode(), []
    while not found or (found[-1][0] == 200 and len(found) < 50):
        found.append(post(address, body, "application/json"))
    assert (found[-1][0], found[-1][1]["code"]) == (503, "log_unavailable")
    status, ready = ask(address, "GET", "/readyz")
    assert (status, ready["reasons"]) == (503, ["no space left for the audit log"])
    assert chain.verify(tmp_path / "audit.jsonl") == len(found) - 1


def test_weights_that_do_not_verify_are_not_served(weights, tmp_path, capsys):
    swap(weights)
    code, out, err = in_process(
        capsys, "--weights", weights, "--port", "0", "--open", "--log", tmp_path / "audit.jsonl"
    )
    assert (code, out) == (3, "")
    (line,) = err.splitlines()
    assert "expected SHA-256" in line
    assert not (tmp_path / "audit.jsonl").exists()


def test_an_open_server_has_to_be_asked_for_by_name(start):
    process, address = start(access=())
    assert (address, process.wait(30)) == (None, 2)
    assert "one of the arguments --tokens --open is required" in process.stderr.read()


def in_process(capsys, *arguments):
    code = command.main([str(one) for one in arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_verifying_a_log_says_how_many_records_or_which_line(tmp_path, make_client, capsys):
    client, log = make_client(), tmp_path / "audit.jsonl"
    for _ in range(3):
        client.post("/predict", json=PIXELS)
    assert in_process(capsys, "verify-log", log) == (0, "verified: 3 records\n", "")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201', 1))
    code, out, err = in_process(capsys, "verify-log", log)
    assert (code, out) == (1, "")
    assert err == f"{log}: line 1: edited: its hash is not that of its content\n"
    assert in_process(capsys, "verify-log", tmp_path / "none")[0] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--settings", "none.yaml"], "expected a file of settings", id="settings"),
        pytest.param(["--host", "256.1.1.1"], "cannot listen on 256.1.1.1", id="address"),
    ],
)
def test_what_it_cannot_serve_with_is_one_line(weights, tmp_path, capsys, options, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = in_process(capsys, "--weights", weights, "--port", "0", "--open", *options)
    assert (code, out) == (4, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_damaged_token_file_serves_nobody(weights, tmp_path, capsys):
    (tmp_path / "t.json").write_text("{}x")
    code, _, err = in_process(capsys, "--weights", weights, "--port", "0", "--tokens", tmp_path / "t.json")
    assert code == 4
    assert "t.json" in err


def test_a_token_without_a_scope_is_not_made(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["token", "--tokens", str(tmp_path / "t.json"), "--name", "a"])
    assert "--scope" in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()
    assert tokens.Tokens().find("Bearer x") is None
