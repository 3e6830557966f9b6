"""OpenAI's dialect, through the real `openai` client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.bpe_tokenizers import CHATML
from support.servers import Server, serving
from support.tiny_model import tiny_gguf

openai = pytest.importorskip("openai", reason="the openai client is not installed")

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


MODEL = "SmolLM2-135M-Instruct.Q4_1"


def client_of(server: Server, key: str = "none") -> Any:
    url = f"http://127.0.0.1:{server.port}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return client_of(server)


def chat(client: Any, **more: Any) -> Any:
    fields = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 12, **more}
    return client.chat.completions.create(**fields)


def test_the_model_is_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_clients_need_the_key_and_call_the_model_by_its_alias(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "key").write_text("a secret\n")
    options = ("--api-key-file", str(tmp_path / "key"), "-a", "smol")
    with serving(tmp_path, *options, model=tiny) as server:
        assert [model.id for model in client_of(server, "a secret").models.list()] == ["smol"]
        with pytest.raises(openai.AuthenticationError):
            client_of(server, "another").models.list()
        for header in ("Bearer ", "Bearer", "Basic a secret", "a secret"):
            status, _ = server.request("GET", "/v1/models", headers={"Authorization": header})
            assert status == 401
        assert server.request("GET", "/health")[0] == 200


def test_a_template_that_refuses_is_a_400_with_its_words(tmp_path: Path) -> None:
    template = "{{ raise_exception('Only user and assistant roles are supported!') }}"
    with serving(tmp_path, model=tiny_gguf(tmp_path, template)) as server:
        for path in ("/v1/chat/completions", "/apply-template"):
            status, found = server.request("POST", path, {"messages": QUESTION})
            assert status == 400
            assert "Only user and assistant roles are supported!" in found["error"]["message"]


def test_a_chat_streams_what_it_answers_whole_and_counts_it(client: Any) -> None:
    whole = chat(client)
    stream = list(chat(client, stream=True, stream_options={"include_usage": True}))
    *chunks, last = stream
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        == whole.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [
        None,
        whole.choices[0].finish_reason,
    ]
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens == 37
    assert len({chunk.id for chunk in stream}) == 1


def test_log_probabilities_stop_texts_and_several_answers(client: Any) -> None:
    answer = chat(client, logprobs=True, top_logprobs=3, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    entries = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
    assert all(len(entry.top_logprobs) == 3 for entry in entries)
    assert answer.usage.prompt_tokens == 37
    word = entries[3].token
    assert word not in chat(client, stop=[word]).choices[0].message.content


def test_an_answer_that_was_begun_is_continued(client: Any) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
    text = chat(client, messages=begun).choices[0].message.content
    assert text.startswith(" Paris")


def written(text: str) -> dict[str, Any]:
    """A request for exactly this text."""
    return {"extra_body": {"grammar": f"root ::= {json.dumps(text)}"}, "max_tokens": 40}


def members(answer: Any) -> tuple[str | None, str | None]:
    return getattr(answer, "reasoning_content", None), answer.content


def test_thoughts_come_apart_from_the_answer_whole_and_streamed(client: Any) -> None:
    thinks = written("<think>\nIt is late.\n</think>\n\nGood night.")
    assert members(chat(client, **thinks).choices[0].message) == ("It is late.", "Good night.")
    deltas = [chunk.choices[0].delta for chunk in chat(client, stream=True, **thinks)]
    parts = [members(delta) for delta in deltas]
    assert "".join(thoughts or "" for thoughts, _ in parts) == "It is late."
    assert "".join(content or "" for _, content in parts) == "Good night."
    assert members(chat(client, **written("Good night.")).choices[0].message) == (
        None,
        "Good night.",
    )
    thinks["extra_body"]["reasoning_format"] = "none"
    text = chat(client, **thinks).choices[0].message.content
    assert text == "<think>\nIt is late.\n</think>\n\nGood night."


def test_an_answer_after_a_prompt_that_ends_in_think_starts_with_thoughts(tmp_path: Path) -> None:
    template = CHATML.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
    assert template != CHATML
    with serving(tmp_path, model=tiny_gguf(tmp_path, template)) as server:
        wanted = {"messages": QUESTION, "grammar": 'root ::= "It is late.</think> Good night."'}
        status, found = server.request("POST", "/v1/chat/completions", wanted)
    assert status == 200
    assert found["choices"][0]["message"] == {
        "role": "assistant",
        "reasoning_content": "It is late.",
        "content": "Good night.",
    }


def test_a_response_format_is_followed(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = chat(client, response_format=wanted, max_tokens=40)
    assert json.loads(answer.choices[0].message.content)["city"] in ("Paris", "Rome")


def test_plain_completions_echo_and_tell_log_probabilities(client: Any) -> None:
    found = client.completions.create(
        model=MODEL,
        prompt="The capital of France is",
        temperature=0,
        max_tokens=3,
        echo=True,
        logprobs=2,
    )
    (choice,) = found.choices
    assert choice.text.startswith("The capital of France is Paris")
    assert choice.logprobs.tokens[0] == " Paris"
    assert choice.logprobs.text_offset[0] == len("The capital of France is")
    assert len(choice.logprobs.top_logprobs[0]) == 2
    both = client.completions.create(
        model=MODEL, prompt=["1, 2,", "a, b,"], temperature=0, max_tokens=2
    )
    assert [one.index for one in both.choices] == [0, 1]


def test_usage_counts_each_prompt_once_and_every_answer(client: Any) -> None:
    def usage(**fields: Any) -> Any:
        wanted = {"model": MODEL, "max_tokens": 2, "temperature": 0, **fields}
        return client.completions.create(**wanted).usage

    short, long = (usage(prompt=prompt) for prompt in ("1, 2,", "a, b, c, d,"))
    both = usage(prompt=["1, 2,", "a, b, c, d,"], n=3)
    assert both.prompt_tokens == short.prompt_tokens + long.prompt_tokens
    assert both.completion_tokens == 2 * 3 * 2
    assert both.total_tokens == both.prompt_tokens + both.completion_tokens


def test_errors_are_those_that_the_client_knows(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        chat(client, model="gpt-4o")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        chat(client, messages=[{"role": "user", "content": "word " * 2000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="neither pictures nor sound"):
        chat(client, messages=[{"role": "user", "content": [{"type": "image_url"}]}])
