"""The real Open WebUI, through its own server, as its page would use ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from support.servers import Server, parsed, serving

COMMAND = os.environ.get("OPENWEBUI")
pytestmark = pytest.mark.skipif(
    not COMMAND, reason="OPENWEBUI does not name the open-webui of an installed Open WebUI"
)
KEY = "a-key"
SETTINGS = {
    "WEBUI_AUTH": "False",
    "ENABLE_OLLAMA_API": "False",
    "OPENAI_API_KEY": KEY,
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",  # it would load a model of its own
    "ANONYMIZED_TELEMETRY": "False",
}
QUESTION = {"role": "user", "content": "What is the capital of France?"}


class WebUI:
    """A running Open WebUI that talks to our server."""

    def __init__(self, port: int, server: Server) -> None:
        self._port = port
        self._token = ""
        self.url = f"http://127.0.0.1:{server.port}/v1"
        self.model: str = server.request("GET", "/v1/models", headers=_bearer(KEY))[1]["data"][0][
            "id"
        ]
        self._token = self.ask("POST", "/api/v1/auths/signin", email="", password="")[1]["token"]

    def ask(self, method: str, path: str, **fields: object) -> tuple[int, Any]:
        """The status and the JSON that answers a request; of a stream, the data of its events."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        headers = {"Content-Type": "application/json", **_bearer(self._token)}
        connection.request(method, path, json.dumps(fields) if fields else None, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if fields.get("stream"):
            return response.status, [data for _, data in parsed(text)]
        return response.status, json.loads(text)

    def chat(self, *messages: dict[str, str], **fields: object) -> tuple[str, dict[str, Any]]:
        """The text of a greedy answer that streams, and its last timings."""
        wanted = {"model": self.model, "messages": messages, "max_tokens": 24, "temperature": 0}
        status, chunks = self.ask("POST", "/api/chat/completions", stream=True, **wanted, **fields)
        assert (status, chunks.pop()) == (200, "[DONE]")
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        return text, chunks[-1]["timings"]


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    folder = tmp_path_factory.mktemp("webui")
    with serving(folder, "--api-key", KEY) as server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{server.port}/v1"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [COMMAND or "", "serve", "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env={**os.environ, **SETTINGS, "DATA_DIR": str(folder), "OPENAI_API_BASE_URL": url},
                stdout=log,
                stderr=log,
            )
        try:
            while not _is_healthy(port):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
            yield WebUI(port, server)
        finally:
            process.terminate()
            process.wait(30)


def _is_healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        response: HTTPResponse = connection.getresponse()
        return response.status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_its_connection_is_accepted_with_the_key_alone(webui: WebUI) -> None:
    _, found = webui.ask("POST", "/openai/verify", url=webui.url, key=KEY)
    assert [model["id"] for model in found["data"]] == [webui.model]
    _, found = webui.ask("POST", "/openai/verify", url=webui.url, key="another")
    assert "needs its key" in found["error"]["message"]


def test_a_title_between_turns_leaves_the_chat_evaluated(webui: WebUI) -> None:
    assert webui.model in [model["id"] for model in webui.ask("GET", "/api/models")[1]["data"]]
    setting = {"role": "system", "content": "You are the keeper of a lighthouse. " * 20}
    text, first = webui.chat(setting, QUESTION)
    assert text.startswith("The capital of France is Paris")
    chat = [setting, QUESTION, {"role": "assistant", "content": text}]
    path, wanted = "/api/v1/tasks/title/completions", {"model": webui.model, "messages": chat}
    status, title = webui.ask("POST", path, **wanted)
    assert status == 200 and title["choices"][0]["message"]["content"]
    _, second = webui.chat(*chat, {"role": "user", "content": "And of Spain?"})
    assert second["cache_n"] > first["cache_n"] + first["prompt_n"]
    assert second["prompt_n"] < 40


def test_a_wrong_value_reaches_the_user_as_our_sentence(webui: WebUI) -> None:
    wanted = {"model": webui.model, "messages": [QUESTION], "temperature": -1}
    status, found = webui.ask("POST", "/api/chat/completions", **wanted)
    assert status == 400
    assert "temperature" in json.dumps(found)
