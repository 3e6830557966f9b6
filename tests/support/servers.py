"""A real server of `franken-gguf serve` in a process of its own, and requests to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from support.models import smollm2

QUICK = ("-t", "1", "-ngl", "0", "-c", "1024", "--port", "0")
LISTENING = re.compile(r"listening at https?://.+:(\d+);")


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    notices: list[str]
    """What it printed before it listened."""
    folder: Path
    """Its data and its cache."""

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """The status and the JSON, or else the text, that answers a request."""
        with self.response(method, path, body, headers) as response:
            text = response.read().decode()
            kind = response.headers.get("content-type", "")
            return response.status, json.loads(text) if kind == "application/json" else text

    def get(self, path: str) -> Any:
        """The JSON that answers a GET."""
        status, found = self.request("GET", path)
        assert status == 200, found
        return found

    def post(self, path: str, **fields: object) -> Any:
        """The JSON that answers a POST of these fields."""
        status, found = self.request("POST", path, fields)
        assert status in (200, 201), found
        return found

    def events(self, path: str, **fields: object) -> list[tuple[str, Any]]:
        """The name and the data of each event that answers a POST of these fields."""
        with self.response("POST", path, fields) as response:
            assert response.status == 200, response.read()
            return list(parsed(response.read().decode()))

    @contextmanager
    def response(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        """The answer to a request, to be read while it comes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        try:
            connection.request(method, path, content, dict(headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def end(self) -> int:
        """End it by SIGTERM, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def parsed(text: str) -> Iterator[tuple[str, Any]]:
    """The events of a stream: name and data, which is a text where it is not JSON."""
    for block in text.split("\n\n"):
        lines = dict(
            line.split(": ", 1) for line in block.split("\n") if not line.startswith(":") and line
        )
        if "data" in lines:
            content = lines["data"]
            yield lines.get("event", ""), content if content == "[DONE]" else json.loads(content)


@contextmanager
def serving(
    folder: Path, *options: str, model: Path | None = None, command: Sequence[str] = ()
) -> Iterator[Server]:
    """A server whose stories, cards and kept contexts are in `folder`; killed at the end.

    `command` starts it in place of `python -m franken_gguf.runner serve`.
    """
    environment = {
        **os.environ,
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    start = command or (sys.executable, "-m", "franken_gguf.runner", "serve")
    process = subprocess.Popen(
        [*start, str(model or smollm2()), *QUICK, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    notices: list[str] = []
    try:
        for line in process.stderr:
            if found := LISTENING.search(line):
                break
            notices.append(line.rstrip())
        else:
            raise AssertionError("\n".join(notices))
        yield Server(process, int(found[1]), notices, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
