"""The real SillyTavern, through its own server, as its page would use ours."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from support.servers import Server, parsed, serving

FOLDER = os.environ.get("SILLYTAVERN")
pytestmark = pytest.mark.skipif(
    not (FOLDER and shutil.which("node")),
    reason="SILLYTAVERN does not name the folder of an installed SillyTavern, or node is missing",
)
TYPES = ("llamacpp", "koboldcpp", "generic")
GREEDY = {"prompt": "The capital of France is", "temperature": 0, "top_k": 1, "seed": 1}
SENT = {
    # What its page sends besides, by SillyTavern 1.19.0's defaults.
    "max_new_tokens": 8,
    "max_tokens": 8,
    "n_predict": 8,
    "max_length": 8,
    "truncation_length": 1024,
    "typical_p": 1,
    "typical": 1,
    "sampler_seed": 1,
    "min_p": 0,
    "rep_pen": 1,
    "rep_pen_range": 0,
    "repetition_penalty": 1,
    "repeat_penalty": 1,
    "tfs": 1,
    "top_a": 0,
    "top_n_sigma": 0,
    "nsigma": 0,
    "min_keep": 0,
    "dynatemp_range": 0,
    "dynatemp_exponent": 1,
    "smoothing_factor": 0,
    "dry_allowed_length": 2,
    "dry_multiplier": 0,
    "dry_base": 1.75,
    "dry_sequence_breakers": ["\n", ":", '"', "*"],
    "dry_penalty_last_n": 0,
    "mirostat": 0,
    "mirostat_tau": 5,
    "mirostat_eta": 0.1,
    "xtc_probability": 0,
    "xtc_threshold": 0.1,
    "stop": ["\nUser:"],
    "stopping_strings": ["\nUser:"],
    "ban_eos_token": False,
    "ignore_eos": False,
    "skip_special_tokens": True,
    "add_bos_token": True,
    "sampler_order": [6, 0, 1, 3, 4, 2, 5],
    "samplers": ["penalties", "dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
    "logit_bias": [],
    "grammar": "",
    "banned_strings": [],
    "cache_prompt": True,
}


class Tavern:
    """A running SillyTavern that talks to our server."""

    def __init__(self, port: int, server: Server) -> None:
        self._port = port
        self._url = f"http://127.0.0.1:{server.port}"

    def post(self, path: str, kind: str = "llamacpp", **fields: object) -> Any:
        """What its server answers; a stream as the data of its events."""
        body = {"api_type": kind, "api_server": self._url, **fields}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/api/{path}", json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == 200, text
        if fields.get("stream"):
            return [data for _, data in parsed(text)]
        return json.loads(text)

    def generate(self, kind: str = "llamacpp", **fields: object) -> Any:
        """An answer through its text completion backend."""
        path = "backends/text-completions/generate"
        return self.post(path, kind, **{**SENT, **GREEDY, **fields})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def tavern(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tavern]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("tavern")
    command = ["node", "server.js", "--port", str(port), "--listen", "false", "--disableCsrf"]
    command += ["--browserLaunchEnabled", "false", "--dataRoot", str(folder)]
    command += ["--configPath", str(folder / "config.yaml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=Path(FOLDER or ""), stdout=log, stderr=log)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        yield Tavern(port, server)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("kind", TYPES)
def test_it_connects_and_shows_the_model(tavern: Tavern, kind: str) -> None:
    found = tavern.post("backends/text-completions/status", kind)
    assert found["result"] == "SmolLM2-135M-Instruct.Q4_1"


def test_it_derives_the_template_and_the_size_of_the_context(tavern: Tavern) -> None:
    props = tavern.post("backends/text-completions/props")
    assert len(props["chat_template_hash"]) == 64
    assert props["default_generation_settings"]["n_ctx"] == 1024


@pytest.mark.parametrize("kind", TYPES)
def test_an_answer_streams_and_is_the_same_whole(tavern: Tavern, kind: str) -> None:
    whole = tavern.generate(kind)
    chunks = tavern.generate(kind, stream=True)
    if kind == "llamacpp":
        text = whole["content"]
        assert "".join(chunk["content"] for chunk in chunks) == text
    else:
        text = whole["choices"][0]["text"]
        assert chunks.pop() == "[DONE]"
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
    assert text.startswith(" Paris")


def test_swipes_probabilities_bans_and_samplers_take_effect(tavern: Tavern) -> None:
    assert len(tavern.generate(n=3)) == 3
    first = tavern.generate(n_probs=4, stream=True)[0]
    (entry,) = first["completion_probabilities"]
    assert len(entry["top_logprobs"]) == 4
    plain = tavern.generate(n_predict=40)["content"]
    assert "Paris" in plain
    assert "paris" not in tavern.generate(n_predict=40, banned_strings=["paris"])["content"].lower()
    dry = tavern.generate(
        n_predict=40, dry_multiplier=5, dry_allowed_length=1, dry_penalty_last_n=-1
    )
    assert dry["generation_settings"]["dry_multiplier"] == 5
    assert dry["content"] != plain
    hot: dict[str, Any] = {"top_k": 0, "top_p": 1, "temperature": 1.0}
    xtc = tavern.generate(**hot, xtc_probability=1, xtc_threshold=0.05, n_predict=1)
    assert xtc["content"] != " Paris"


def test_a_wrong_value_reaches_the_user_as_our_sentence(tavern: Tavern) -> None:
    found = tavern.generate(grammar="root ::= (")
    assert found["status"] == 400
    assert "the grammar, line 1" in json.loads(found["response"])["error"]["message"]


def test_tokens_are_counted_by_our_tokenizer(tavern: Tavern, server: Server) -> None:
    text = "The capital of France is"
    url = f"http://127.0.0.1:{server.port}"
    for kind in ("llamacpp", "koboldcpp"):
        path = "tokenizers/remote/textgenerationwebui/encode"
        found = tavern.post(path, kind, text=text, url=url, model="")
        assert found["count"] == len(server.post("/tokenize", content=text)["tokens"])
