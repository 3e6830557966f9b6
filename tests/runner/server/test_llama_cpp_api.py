"""llama.cpp's dialect, as SillyTavern's "llama.cpp" type uses it, on a real server."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from support.servers import Server

FRANCE = "The capital of France is"
PARIS = 7042
GREEDY = {"temperature": 0, "n_predict": 8}


def content(server: Server, **fields: Any) -> str:
    text: str = server.post("/completion", **{"prompt": FRANCE, **GREEDY, **fields})["content"]
    return text


def test_health_and_props_tell_what_clients_look_for(server: Server) -> None:
    assert server.get("/health") == {"status": "ok"}
    props = server.get("/props")
    assert props["default_generation_settings"]["n_ctx"] == 1024
    assert "<|im_start|>" in props["chat_template"]
    assert props["total_slots"] == 1


def test_each_token_is_one_event_and_together_they_are_the_plain_answer(server: Server) -> None:
    whole = server.post("/completion", prompt=FRANCE, return_tokens=True, **GREEDY)
    events = [
        data for _, data in server.events("/completion", prompt=FRANCE, stream=True, **GREEDY)
    ]
    assert len(events) == 8 + 1
    assert "".join(one["content"] for one in events) == whole["content"]
    assert [token for one in events for token in one["tokens"]] == whole["tokens"]
    assert [one["stop"] for one in events] == [False] * 8 + [True]
    assert events[-1]["stop_type"] == whole["stop_type"] == "limit"
    assert events[-1]["timings"]["predicted_n"] == 8


def test_probabilities_come_in_both_forms_and_add_up(server: Server) -> None:
    (_, first), *_ = server.events("/completion", prompt=FRANCE, stream=True, n_probs=7, **GREEDY)
    (entry,) = first["completion_probabilities"]
    assert entry["id"] == PARIS and entry["token"] == entry["content"] == " Paris"
    assert bytes(entry["bytes"]) == b" Paris"
    top = entry["top_logprobs"]
    assert len(top) == len(entry["probs"]) == 7
    assert top[0]["logprob"] == entry["logprob"]
    assert [one["tok_str"] for one in entry["probs"]] == [one["token"] for one in top]
    assert entry["probs"][0]["prob"] == pytest.approx(math.exp(entry["logprob"]))
    assert sorted(top, key=lambda one: -one["logprob"]) == top


def test_several_prompts_and_several_answers_come_as_a_list(server: Server) -> None:
    found = server.post("/completion", prompt=[FRANCE, "2 + 2 ="], n=2, **GREEDY)
    assert [one["index"] for one in found] == [0, 1, 2, 3]
    assert found[0]["content"] == found[1]["content"] == content(server)
    assert found[2]["content"] != found[0]["content"]


def test_tokens_and_text_are_each_others_inverse_and_a_prompt_may_be_either(server: Server) -> None:
    tokens = server.post("/tokenize", content=FRANCE)["tokens"]
    assert server.post("/detokenize", tokens=tokens)["content"] == FRANCE
    assert content(server, prompt=tokens) == content(server)
    assert content(server, prompt=[*tokens[:-1], " is"]) == content(server)
    pieces = server.post("/tokenize", content="a🙂", with_pieces=True)["tokens"]
    assert (
        b"".join(
            bytes(p) if isinstance(p, list) else p.encode()
            for p in (one["piece"] for one in pieces)
        )
        == "a🙂".encode()
    )
    (end,) = server.post("/tokenize", content="<|im_end|>")["tokens"]
    spelled = server.post("/tokenize", content="<|im_end|>", parse_special=False)["tokens"]
    assert end not in spelled and len(spelled) > 1


@pytest.mark.parametrize(
    "bias",
    [
        [[PARIS, False]],
        [[PARIS, -100.0]],
        [[" Paris", False]],
        {str(PARIS): False},
        {" Paris": -100},
    ],
)
def test_a_bias_works_in_every_form_that_clients_send(server: Server, bias: Any) -> None:
    assert content(server).startswith(" Paris")
    assert not content(server, logit_bias=bias).startswith(" Paris")


def test_a_bias_on_a_token_that_the_model_has_not_changes_nothing(server: Server) -> None:
    others = [[10**20, -100], [2**32 + PARIS, -100], [-1, -100], [49_999, False]]
    assert content(server, logit_bias=others) == content(server)


def test_a_banned_phrase_is_never_written(server: Server) -> None:
    assert "Paris" in content(server, n_predict=24)
    done = server.post(
        "/completion", prompt=FRANCE, banned_strings=["paris"], temperature=0, n_predict=24
    )
    assert "paris" not in done["content"].lower()
    assert done["timings"]["rewound_n"] > 0


def test_a_grammar_and_a_json_schema_are_followed(server: Server) -> None:
    assert re.fullmatch("[0-9]{3}", content(server, grammar="root ::= [0-9] [0-9] [0-9]"))
    schema = {
        "type": "object",
        "properties": {"sea": {"type": "boolean"}},
        "required": ["sea"],
        "additionalProperties": False,
    }
    found = json.loads(content(server, json_schema=schema, n_predict=40))
    assert found in ({"sea": True}, {"sea": False})


def test_samplers_are_used_in_the_order_given(server: Server) -> None:
    settings = server.post(
        "/completion",
        prompt=FRANCE,
        n_predict=1,
        samplers=["min_p", "unknown", "temperature", "min_p"],
    )["generation_settings"]
    assert settings["samplers"] == ["min_p", "temperature"]
    letters = server.post("/completion", prompt=FRANCE, n_predict=1, samplers="kt")
    assert letters["generation_settings"]["samplers"] == ["top_k", "temperature"]
    # The likeliest token alone is left, however hot.
    assert content(server, temperature=100, samplers=["top_k"], top_k=1) == content(server)


def test_the_same_seed_gives_the_same_answer(server: Server) -> None:
    first, again, other = (content(server, temperature=1.5, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


def test_an_answer_ends_before_a_stop_text_and_says_which(server: Server) -> None:
    done = server.post("/completion", prompt=FRANCE, stop=["ris.", "never"], **GREEDY)
    assert done["content"] == " Pa"
    assert (done["stop_type"], done["stopping_word"]) == ("word", "ris.")


def test_no_tokens_wanted_only_evaluates_the_prompt(server: Server) -> None:
    done = server.post("/completion", prompt="Once upon a time there was a fox", n_predict=0)
    assert done["content"] == "" and done["tokens_predicted"] == 0
    assert (
        server.post("/completion", prompt="Once upon a time there was a fox", n_predict=0)[
            "timings"
        ]["prompt_n"]
        == 1
    )


def test_a_chat_becomes_the_templates_text(server: Server) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    prompt = server.post("/apply-template", messages=messages)["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nWell,")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "prompt must be given, as a text or tokens"),
        ({"prompt": 5}, "prompt must be a text or a list of tokens"),
        ({"prompt": [10**9]}, "token ids outside"),
        ({"prompt": "x", "temperature": "hot"}, "temperature must be a number"),
        ({"prompt": "x", "top_p": 3}, "top_p is 3.0; it must be from 0 to 1"),
        ({"prompt": "x", "n": 1000}, "n must be from 1 to 32"),
        ({"prompt": "x", "grammar": "root ::= ("}, "the grammar, line 1"),
        ({"prompt": "x", "json_schema": {"$ref": "https://example.org"}}, "JSON schema"),
        ({"prompt": "x", "logit_bias": [[1, True]]}, "logit_bias must be a number"),
        ({"prompt": "x", "stop": 7}, "stop must be a text or a list of texts"),
        ({"prompt": "x", "banned_strings": ["/(/"]}, "not a usable regular expression"),
        ({"prompt": "word " * 2000}, "does not fit into the context of 1024 tokens"),
    ],
)
def test_a_wrong_value_is_named(server: Server, fields: dict[str, Any], what: str) -> None:
    status, found = server.request("POST", "/completion", fields)
    assert status == 400
    assert what in found["error"]["message"]
    assert found["error"]["code"] == 400


def test_unknown_fields_are_ignored_and_null_is_the_default(server: Server) -> None:
    assert content(server, unheard_of=[1], grammar=None, stop=None, min_keep=0) == content(server)


def test_what_is_not_there_is_refused_in_llama_cpps_form(server: Server) -> None:
    assert server.request("POST", "/embedding", {})[0] == 501
    status, found = server.request("GET", "/nothing")
    assert (status, found["error"]["type"]) == (404, "not_found_error")
    assert server.request("GET", "/completion")[0] == 405
