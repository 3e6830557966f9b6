"""Clients that send anything, too much, too slowly, or go away: the server goes on."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.servers import Server, serving

HASTY = Path(__file__).parents[2] / "support/hasty_server.py"
POSTS = (
    "/completion",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/completions",
    "/v1/chat/completions",
    "/api/v1/generate",
    "/api/extra/tokencount",
    "/api/extra/detokenize",
    "/api/extra/json_to_grammar",
    "/api/stories",
)
NAMES = [
    "prompt",
    "messages",
    "content",
    "tokens",
    "ids",
    "n",
    "stop",
    "temperature",
    "top_k",
    "logit_bias",
    "grammar",
    "json_schema",
    "samplers",
    "banned_strings",
    "n_probs",
    "logprobs",
    "response_format",
    "memory",
    "sampler_order",
    "cards",
    "name",
    "max_tokens",
    "seed",
    "dry_sequence_breakers",
    "schema",
    "role",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "type", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Server]:
    folder, command = tmp_path_factory.mktemp("server"), (sys.executable, str(HASTY), "serve")
    # Short answers, so that whatever is asked ends soon.
    with serving(folder, "-n", "2", model=tiny, command=command) as running:
        yield running
        assert running.process.poll() is None


@given(st.sampled_from(POSTS), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5))
@settings(max_examples=150)
def test_no_body_is_an_error_of_the_server(
    server: Server, path: str, fields: dict[str, Any]
) -> None:
    status, found = server.request("POST", path, {**fields, "n_predict": 1, "max_length": 1})
    assert 200 <= status < 500, found
    if status >= 400:
        assert "error" in found or "detail" in found


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"prompt": NaN}',
        b'{"prompt": ' + b"[" * 50_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"prompt": ' + b"9" * 10_000 + b"}",
        b'{"temperature": 1e999, "prompt": "x"}',
    ],
)
def test_json_that_is_not_is_a_clear_400(server: Server, body: bytes) -> None:
    status, found = server.request("POST", "/completion", body)
    assert status == 400, found
    assert 0 < len(found["error"]["message"]) < 300


def test_half_a_surrogate_pair_in_a_prompt_is_no_error(server: Server) -> None:
    status, found = server.request("POST", "/completion", b'{"prompt": "\\ud800", "n_predict": 1}')
    assert (status, found["tokens_predicted"]) == (200, 1)


def test_a_huge_body_is_refused_before_it_is_read(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(
            b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n"
        )
        chunk = b"x" * (1 << 20)
        try:
            for _ in range(40):
                client.sendall(chunk)
        except OSError:  # refused meanwhile
            pass
        answer = client.recv(1 << 16)
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_ten_thousand_messages_are_too_long_and_it_says_so(server: Server) -> None:
    messages = [{"role": ("user", "assistant")[n % 2], "content": "word"} for n in range(10_001)]
    status, found = server.request("POST", "/v1/chat/completions", {"messages": messages})
    assert (status, found["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:99"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "192.168.1.7"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1", "Host": "localhost:1"}, 200),
    ],
)
def test_only_our_own_names_and_pages_get_in(
    server: Server, headers: dict[str, str], status: int
) -> None:
    assert server.request("GET", "/props", headers=headers)[0] == status


def test_a_client_that_sends_its_headers_slowly_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        assert client.recv(100) == b""
    assert server.get("/health") == {"status": "ok"}


def test_a_body_that_comes_slowly_is_a_timeout(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    assert server.get("/health") == {"status": "ok"}


def test_a_half_closed_connection_is_one_that_went_away(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert server.get("/health") == {"status": "ok"}


def idle(server: Server) -> bool:
    slot = server.get("/slots")[0]
    return not slot["is_processing"] and not slot["waiting"]


def wait_until_idle(server: Server) -> None:
    deadline = time.monotonic() + 60
    while not idle(server):
        assert time.monotonic() < deadline, "the server is still busy"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def wide_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that works for minutes on a long prompt or answer."""
    with serving(tmp_path_factory.mktemp("wide"), "-c", "8192") as running:
        yield running


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("path", ["/completion", "/v1/chat/completions"])
def test_a_connection_that_closes_ends_its_work(
    wide_server: Server, path: str, is_stream: bool
) -> None:
    fields = {
        "prompt": "Once",
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "stream": is_stream,
        "ignore_eos": True,
    }
    abandon(wide_server, path, fields)
    # Of about 8,000 tokens only those were written that the connection lasted for.
    assert wide_server.get("/slots")[0]["n_tokens"] < 2000


def test_a_long_prompt_is_left_when_its_client_goes_away(wide_server: Server) -> None:
    abandon(wide_server, "/completion", {"prompt": "word " * 7000, "n_predict": 1})
    assert wide_server.get("/slots")[0]["n_tokens"] < 7000


def abandon(server: Server, path: str, fields: dict[str, Any]) -> None:
    """Send a request, go away once it is worked on, and wait until the work has ended."""
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        while idle(server):
            time.sleep(0.01)
    wait_until_idle(server)


def one_request(server: Server, dice: random.Random) -> None:
    """A request of any kind, in a quarter of the cases broken off at any moment."""
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/completion", {"prompt": f"{dice.random()} is", "stream": True}),
        ("/completion", {"prompt": "The sea", "n_probs": 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "word " * dice.randrange(200), "stream": True}),
        ("/api/v1/generate", {"prompt": "Once", "max_length": 3}),
        ("/tokenize", {"content": "word " * 100}),
        ("/completion", {"prompt": 5}),
    ]
    path, fields = dice.choice(requests)
    with server.response("POST", path, fields) as response:
        if dice.random() < 0.25:
            response.read(dice.randrange(1, 200))
            return
        content = response.read()
        assert response.status == (400 if fields.get("prompt") == 5 else 200), content
        assert b'"error"' not in content or response.status == 400


def test_many_connections_of_all_kinds_leave_the_server_as_it_was(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    children = [process, *process.children(recursive=True)]
    errors: list[BaseException] = []

    def client(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(5):
                one_request(server, dice)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    wait_until_idle(server)
    assert all(child.is_running() for child in children)
    assert server.post("/completion", prompt="The end", n_predict=1)["tokens_predicted"] == 1
