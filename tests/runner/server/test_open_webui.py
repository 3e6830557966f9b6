"""The requests that Open WebUI 0.12.4 sends, as they were recorded, to a real server."""

from __future__ import annotations

import json
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from support.servers import Server

MODEL = "SmolLM2-135M-Instruct.Q4_1"
TITLE = (
    "### Task:\nGenerate a concise title summarizing the chat history.\n### Guidelines:\n"
    "- Your entire response must consist solely of the JSON object.\n### Output:\n"
    'JSON format: { "title": "your concise title here" }\n### Chat History:\n'
    "<chat_history>\n{{MESSAGES}}\n</chat_history>"
)
TIMESTAMP = {
    # One of the 36 tools that come with each turn.
    "name": "get_current_timestamp",
    "description": "Get the current Unix timestamp in seconds.",
    "parameters": {"properties": {}, "type": "object"},
}
TOOLS = [{"type": "function", "function": TIMESTAMP}]


def streamed(server: Server, messages: list[dict[str, str]], **more: Any) -> tuple[str, Any]:
    """The text and the usage that a chat's answer streams."""
    fields = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, **more}
    events = server.events(
        "/v1/chat/completions",
        model=MODEL,
        messages=messages,
        tools=TOOLS,
        max_tokens=16,
        **fields,
    )
    *chunks, (_, usage), (_, end) = events
    assert end == "[DONE]" and usage["choices"] == []
    deltas = [data["choices"][0]["delta"] for _, data in chunks]
    return "".join(delta.get("content") or "" for delta in deltas), usage["usage"]


def test_its_connection_lists_the_model_without_a_key(server: Server) -> None:
    status, found = server.request("GET", "/v1/models", headers={"Authorization": "Bearer "})
    assert status == 200
    assert [model["id"] for model in found["data"]] == [MODEL]


def test_title_and_tags_between_turns_leave_the_chat_evaluated(server: Server) -> None:
    chat = [{"role": "user", "content": "Tell me of the sea and its ships. " * 12}]
    text, usage = streamed(server, chat)
    chat += [{"role": "assistant", "content": text}, {"role": "user", "content": "And the fish?"}]
    history = "\n".join(f"{one['role'].upper()}: {one['content']}" for one in chat)
    for _ in ("title", "tags"):
        task = [{"role": "user", "content": TITLE.replace("{{MESSAGES}}", history)}]
        answer = server.post(
            "/v1/chat/completions", model=MODEL, messages=task, stream=False, max_tokens=8
        )
        assert answer["choices"][0]["message"]["content"]
    _, again = streamed(server, chat)
    assert again["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"]


def test_a_request_for_a_title_gives_way_to_the_chat(server: Server) -> None:
    def slot() -> dict[str, Any]:
        found: dict[str, Any] = server.get("/slots")[0]
        return found

    # A request counts as served a moment after its client has the last event: also the last one.
    while (before := slot())["is_processing"]:
        time.sleep(0.01)
    served = before["served"]
    title = {"messages": [{"role": "user", "content": TITLE}], "stream": False}
    fields = {**title, "max_tokens": 800, "ignore_eos": True}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=120)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(fields))
        while not slot()["is_processing"]:
            time.sleep(0.01)
        assert streamed(server, [{"role": "user", "content": "What is the capital of France?"}])[0]
        while (then := slot())["served"] == served:
            time.sleep(0.01)
        assert then["served"] == served + 1  # the chat alone
        assert then["is_processing"] or then["waiting"]


def test_continue_does_not_repeat_what_the_answer_begins_with(server: Server) -> None:
    chat = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    # So to a connection whose provider is llama.cpp.
    more = {"continue_final_message": True, "add_generation_prompt": False}
    assert streamed(server, chat, **more)[0].startswith(" Paris")
    status, found = server.request(
        "POST", "/v1/chat/completions", {"messages": chat, **more, "add_generation_prompt": True}
    )
    assert status == 400 and found["error"]["param"] == "continue_final_message"
