"""`franken-gguf serve` as a command: its port, its key, its end."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from support.models import smollm2
from support.servers import serving


def refused(*options: str) -> str:
    """What `serve` with these options prints when it ends with an error."""
    done = subprocess.run(
        [sys.executable, "-m", "franken_gguf.runner", "serve", str(smollm2()), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_names_the_process_that_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused("--port", str(port))
    assert f"port {port} is in use" in error
    assert f"(process {os.getpid()})" in error
    assert "--port" in error


def test_ending_it_amid_an_answer_saves_what_has_been_written(tmp_path: Path) -> None:
    with serving(tmp_path, "-c", "4096") as server:
        server.post("/api/stories", name="Tale")
        fields = {"text": "Tell me of the sea.", "sampling": {"ignore_eos": True}}
        with server.response("POST", "/api/stories/Tale/answer", fields) as response:
            response.read(3000)
            server.process.terminate()
            rest = response.read().decode()
        assert server.process.wait(60) == 143
        assert '"finish": "interrupted"' in rest
    saved = (tmp_path / "data/franken-gguf/sessions/Tale.jsonl").read_text()
    assert saved.count("\n") == 3


def test_other_machines_need_a_key_which_is_made_if_none_is_given(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0") as server:
        (line,) = [one for one in server.notices if "its key for this run is" in one]
        key = line.rpartition(" ")[2]
        assert len(key) >= 32
        assert any("--ssl-cert-file" in one for one in server.notices)
        assert server.request("GET", "/props")[0] == 401
        assert server.request("GET", "/props", headers={"X-Api-Key": key})[0] == 200


def test_pages_of_a_named_origin_may_use_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--origin", "https://stories.example") as server:
        headers = {"Origin": "https://stories.example"}
        with server.response("GET", "/props", headers=headers) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == "https://stories.example"
        asks = {**headers, "Access-Control-Request-Method": "POST"}
        assert server.request("OPTIONS", "/completion", headers=asks)[0] == 200
        assert server.request("GET", "/props", headers={"Origin": "https://x.example"})[0] == 403


def test_it_serves_https_with_a_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(
            [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    with serving(
        tmp_path, "--ssl-cert-file", str(certificate), "--ssl-key-file", str(key)
    ) as server:
        trust = ssl.create_default_context(cafile=str(certificate))
        connection = HTTPSConnection("localhost", server.port, context=trust, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--ssl-cert-file", "x"], "give both --ssl-cert-file and --ssl-key-file"),
        (["--api-key", "a", "--api-key-file", "b"], "not both"),
        (["--api-key-file", "/nowhere"], "/nowhere"),
        (["--host", "nowhere.invalid"], "--host nowhere.invalid"),
        (["--port", "99999"], "--port"),
        (["--expert-names", "A,B"], f"A,B: has 2 names, but {smollm2()} has 0 experts; give"),
        (["--port", "0", "--compare-with", str(smollm2())], "are the same model; compare two"),
        (["--port", "0", "--compare-with", "/nowhere.gguf"], "/nowhere.gguf: no such file"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], what: str) -> None:
    assert what in refused(*options)


def test_a_model_file_that_is_replaced_while_it_is_served_changes_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(smollm2().read_bytes())
    fields = {"prompt": "The capital of France is", "temperature": 0, "n_predict": 4}
    with serving(tmp_path, model=model) as server:
        before = server.post("/completion", **fields)["content"]
        other = tmp_path / "other"
        other.write_bytes(b"not a model")
        other.replace(model)
        assert server.post("/completion", **fields)["content"] == before


def test_nothing_of_a_story_is_logged(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.post("/api/stories", name="Whale")
        server.events("/api/stories/Whale/answer", text="Ahab sings", max_tokens=2)
        server.request("POST", "/completion", b'{"prompt": "Ishmael')
        server.request("GET", "/api/stories/Queequeg")
        server.process.terminate()
        assert server.process.stderr is not None
        log = server.process.stderr.read()
    assert log.strip() == "Interrupted."


def test_an_interruption_that_arrives_twice_ends_the_server_in_one_line(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for _ in range(2):  # the second may find the process gone
            with suppress(ProcessLookupError):
                os.kill(server.process.pid, signal.SIGINT)
                time.sleep(0.05)
        assert server.process.stderr is not None
        log = server.process.stderr.read()
        assert server.process.wait() == 130
    assert log.strip() == "Interrupted."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_in_one_line_while_it_answers(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as server:
        fields = {"prompt": "Once upon a time", "n_predict": 400, "stream": True}
        with server.response("POST", "/completion", fields) as answer:
            assert answer.read1()
            server.process.send_signal(number)
            answer.read()
        assert server.process.wait(60) == 128 + number
        assert server.process.stderr is not None
        assert server.process.stderr.read().strip() == "Interrupted."
