"""KoboldCpp's dialect, as its Lite page and SillyTavern use it, on a real server."""

from __future__ import annotations

import json
import threading
from typing import Any

from support.servers import Server, parsed

FRANCE = "The capital of France is"
GREEDY: dict[str, Any] = {"prompt": FRANCE, "temperature": 0, "max_length": 8}


def text(server: Server, **fields: Any) -> str:
    (result,) = server.post("/api/v1/generate", **{**GREEDY, **fields})["results"]
    found: str = result["text"]
    return found


def test_it_says_what_it_is_and_what_it_is_not(server: Server) -> None:
    version = server.get("/api/extra/version")
    assert version["result"] == "KoboldCpp" and version["server"] == "franken-gguf"
    assert version["version"] == "1.87" and version["guidance"] is False
    assert version["llm"] and not version["vision"] and not version["protected"]
    assert server.get("/api/v1/info/version") == {"result": "1.2.5"}
    assert server.get("/api/v1/model")["result"].startswith("koboldcpp/SmolLM2")
    assert server.get("/api/v1/config/max_context_length") == {"value": 1024}
    assert server.get("/api/extra/true_max_context_length") == {"value": 1024}


def test_an_answer_streams_token_by_token(server: Server) -> None:
    whole = text(server)
    events = server.events("/api/extra/generate/stream", **GREEDY)
    assert {name for name, _ in events} == {"message"}
    assert "".join(data["token"] for _, data in events) == whole
    assert [data["finish_reason"] for _, data in events] == [None] * 8 + ["length"]
    assert server.post("/api/extra/generate/check")["results"][0]["text"] == whole
    perf = server.get("/api/extra/perf")
    assert (perf["last_token_count"], perf["stop_reason"], perf["idle"]) == (8, 0, 1)


def test_its_names_of_settings_take_effect(server: Server) -> None:
    plain = text(server, max_length=24)
    assert "Paris" in plain
    assert "Paris" not in text(server, max_length=24, banned_tokens=["Paris"])
    assert text(server, stop_sequence=["ris"]) == " Pa"
    assert text(server, rep_pen=1.5, rep_pen_range=64, max_length=24) != plain
    assert text(server, logit_bias={"7042": -100}) != text(server)
    first, again = (text(server, temperature=2, sampler_seed=3) for _ in range(2))
    assert first == again
    assert text(server, temperature=50, sampler_order=[0], top_k=1) == text(server)


def test_what_its_page_sends_beside_takes_effect(server: Server) -> None:
    plain = text(server)
    assert text(server, custom_token_bans="7042, 12") != plain
    assert text(server, custom_token_bans="7042", logit_bias={"7042": 5}) != plain
    assert "Paris" not in text(server, banned_strings=["Paris"])
    schema = {"type": "object", "properties": {"sea": {"type": "boolean"}}, "required": ["sea"]}
    assert "sea" in json.loads(text(server, grammar=json.dumps(schema), max_length=40))
    (result,) = server.post("/api/v1/generate", **GREEDY, logprobs=True)["results"]
    logprobs = result["logprobs"]
    assert "".join(logprobs["tokens"]) == plain
    assert [one["token"] for one in logprobs["content"]] == logprobs["tokens"]
    assert [one["logprob"] for one in logprobs["content"]] == logprobs["token_logprobs"]
    server.events("/api/extra/generate/stream", **GREEDY, logprobs=True, genkey="streamed")
    assert server.post("/api/extra/last_logprobs", genkey="streamed") == {"logprobs": logprobs}


def test_memory_stays_and_the_oldest_of_a_long_prompt_goes(server: Server) -> None:
    fields = {**GREEDY, "memory": "France. ", "prompt": "word " * 3000 + FRANCE}
    fields["max_context_length"] = 128
    (result,) = server.post("/api/v1/generate", **fields)["results"]
    assert result["prompt_tokens"] == 128 - 8
    assert len(result["text"]) > 0
    status, found = server.request("POST", "/api/v1/generate", {**GREEDY, "memory": "word " * 3000})
    assert status == 400 and "memory must be shorter" in found["detail"]["msg"]


def test_tokens_are_counted(server: Server) -> None:
    counted = server.post("/api/extra/tokencount", prompt=FRANCE)
    assert counted["value"] == len(counted["ids"]) == 5
    assert server.post("/api/extra/detokenize", ids=counted["ids"])["result"] == FRANCE


def test_an_abort_without_a_body_ends_the_clients_own_answer_alone(server: Server) -> None:
    mine, other = {"User-Agent": "mine"}, {"User-Agent": "another"}
    fields = {**GREEDY, "max_length": 900, "ban_eos_token": True}
    with server.response("POST", "/api/extra/generate/stream", fields, mine) as response:
        response.read(1)
        assert server.request("POST", "/api/extra/abort", headers=other)[1]["success"] == "false"
        assert server.request("POST", "/api/extra/abort", headers=mine)[1]["success"] == "true"
        events = [data for _, data in parsed("x" + response.read().decode())]
    assert len(events) < 900
    assert events[-1]["finish_reason"] == "stop"


def test_a_key_ties_check_and_abort_to_an_answer(server: Server) -> None:
    fields = {**GREEDY, "max_length": 900, "ban_eos_token": True, "genkey": "KCPP1"}
    done = threading.Event()

    def generate() -> None:
        server.request("POST", "/api/v1/generate", fields)
        done.set()

    threading.Thread(target=generate).start()
    while not server.post("/api/extra/generate/check", genkey="KCPP1")["results"][0]["text"]:
        pass
    server.post("/api/extra/abort", genkey="KCPP1")
    assert done.wait(30)


def test_errors_have_kobolds_form(server: Server) -> None:
    status, found = server.request("POST", "/api/v1/generate", {**GREEDY, "top_p": 7})
    assert (status, found["detail"]["type"]) == (400, "invalid_request_error")
    assert "top_p is 7.0" in found["detail"]["msg"]
