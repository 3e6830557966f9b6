"""Blind rounds over HTTP: two models answer, the choice decides, the votes file remembers."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.model_identity import identity
from franken_gguf.runner.server.blind_rounds import shown_order
from support.models import other_smollm2, smollm2
from support.servers import Server, serving

GREEDY = {"temperature": 0}
QUESTION = "Who are you?"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("blind")
    with serving(folder, "--compare-with", str(other_smollm2())) as running:
        yield running


def file_of(server: Server) -> Path:
    return server.folder / "data/franken-gguf/votes.jsonl"


def votes(server: Server) -> list[dict[str, Any]]:
    path = file_of(server)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def asked(server: Server, name: str, **fields: Any) -> dict[str, Any]:
    """The round that answers a turn of a story."""
    fields = {"text": QUESTION, "sampling": GREEDY, "max_tokens": 12, **fields}
    events = server.events(f"/api/stories/{name}/round", **fields)
    assert events[-1][0] == "round", events
    assert {kind for kind, _ in events[:-1]} <= {"queue"}
    found: dict[str, Any] = events[-1][1]
    return found


def test_both_models_answer_and_the_story_waits_for_the_choice(server: Server) -> None:
    server.post("/api/stories", name="Waits")
    found = asked(server, "Waits")
    assert found.keys() == {"id", "question", "index", "speaker", "answers"}
    assert found["index"] == 1 and len(set(found["answers"])) == 2
    assert server.get("/api/stories/Waits")["messages"] == []
    assert server.get("/api/stories/Waits/round") == {"round": found}
    assert server.request("DELETE", "/api/stories/Waits/round")[0] == 204
    assert server.get("/api/stories/Waits/round") == {"round": None}
    assert not votes(server)


def test_nothing_that_comes_before_the_choice_tells_the_models_apart(server: Server) -> None:
    server.post("/api/stories", name="Secret")
    fields = {"text": QUESTION, "sampling": GREEDY, "max_tokens": 4}
    with server.response("POST", "/api/stories/Secret/round", fields) as response:
        stream = response.read().decode()
    _, kept = server.request("GET", "/api/stories/Secret/round")
    for text in (stream, json.dumps(kept), json.dumps(server.get("/api/desk"))):
        assert other_smollm2().stem not in text
        for model in (smollm2(), other_smollm2()):
            assert identity(read_header(model)) not in text
    assert {line for line in stream.split("\n") if line.startswith("event: ")} <= {
        "event: queue",
        "event: round",
    }


@pytest.mark.parametrize("choice", ["first", "second", "equal"])
def test_the_chosen_answer_is_the_turn_and_the_other_a_swipe(server: Server, choice: str) -> None:
    server.post("/api/stories", name=choice)
    found, before = asked(server, choice), len(votes(server))
    first, second = found["answers"]
    fields = {"id": found["id"], "choice": choice}
    answer = server.post(f"/api/stories/{choice}/round/choice", **fields)
    taken, other = (second, first) if choice == "second" else (first, second)
    question, message = answer["story"]["messages"]
    assert question["text"] == QUESTION
    assert (message["text"], message["swipes"], message["swipe"]) == (taken, [taken, other], 0)
    assert answer["choices"] == before + 1 == len(votes(server))
    vote = votes(server)[-1]
    assert vote["chosen"] == {"first": 0, "second": 1, "equal": None}[choice]
    status, error = server.request("POST", f"/api/stories/{choice}/round/choice", fields)
    assert (status, error["error"]["type"]) == (409, "conflict_error")
    assert len(votes(server)) == before + 1


def test_a_vote_names_both_models_by_their_content_and_has_no_word_of_the_story(
    server: Server,
) -> None:
    server.post("/api/stories", name="Kept")
    sampling = {"seed": 7, "temperature": 0.5, "dry_sequence_breakers": ["Ahab"]}
    found = asked(server, "Kept", sampling=sampling, max_tokens=5, bans=["Ishmael"])
    server.post("/api/stories/Kept/round/choice", id=found["id"], choice="first")
    vote = votes(server)[-1]
    names = {one["file"]: one["id"] for one in vote["models"]}
    paths = smollm2(), other_smollm2()
    assert names == {path.name: identity(read_header(path)) for path in paths}
    assert (vote["sampling"]["seed"], vote["sampling"]["temperature"]) == (7, 0.5)
    assert vote["max_tokens"] == 5 and vote["version"] == 1
    line = file_of(server).read_text().splitlines()[-1]
    assert not any(word in line for word in ("Ahab", "Ishmael", QUESTION, *found["answers"]))
    assert stat.S_IMODE(file_of(server).stat().st_mode) == 0o600


def test_the_answer_named_in_the_vote_is_that_models_own(server: Server) -> None:
    """The first model also answers alone; greedy, it answers the same."""
    server.post("/api/stories", name="Alone")
    events = server.events(
        "/api/stories/Alone/answer", text=QUESTION, sampling=GREEDY, max_tokens=12
    )
    alone = events[-1][1]["story"]["messages"][1]["text"]
    own = identity(read_header(smollm2()))
    for number in range(4):
        server.post("/api/stories", name=f"Blind{number}")
        found = asked(server, f"Blind{number}")
        place = found["answers"].index(alone)
        server.post(f"/api/stories/Blind{number}/round/choice", id=found["id"], choice="equal")
        assert votes(server)[-1]["models"][place]["id"] == own


def test_the_order_of_the_answers_is_drawn_anew_each_time() -> None:
    assert {shown_order() for _ in range(100)} == {(0, 1), (1, 0)}


def test_without_a_seed_both_get_the_same_one(server: Server) -> None:
    server.post("/api/stories", name="Seed")
    found = asked(server, "Seed", sampling={"temperature": 1}, max_tokens=2)
    server.post("/api/stories/Seed/round/choice", id=found["id"], choice="equal")
    assert 0 <= votes(server)[-1]["sampling"]["seed"] < 2**32 - 1


def test_every_kind_of_turn_can_be_a_round(server: Server) -> None:
    server.post("/api/stories", name="Kinds")

    def turn(**fields: Any) -> list[dict[str, Any]]:
        found = asked(server, "Kinds", max_tokens=4, **fields)
        made = {"id": found["id"], "choice": "second"}
        told = server.post("/api/stories/Kinds/round/choice", **made)["story"]["messages"]
        assert told[found["index"]]["text"] == found["answers"][1]
        return list(told)

    (_, first) = turn()
    (_, again) = turn(action="again")
    assert again["swipes"][:2] == first["swipes"] and len(again["swipes"]) == 4
    assert again["swipe"] == 2
    (_, continued) = turn(action="continue")
    assert continued["text"].startswith(again["text"]) and len(continued["swipes"]) == 5
    (question, _) = turn(action="instead", text="And you?")
    assert question["text"] == "And you?"
    assert len(turn(action="speak")) == 3


def test_a_story_changed_before_the_choice_is_not_overwritten(server: Server) -> None:
    server.post("/api/stories", name="Changed")
    found = asked(server, "Changed")
    server.post("/api/stories/Changed/messages", role="user", text="Meanwhile")
    before = votes(server)
    fields = {"id": found["id"], "choice": "first"}
    assert server.request("POST", "/api/stories/Changed/round/choice", fields)[0] == 409
    assert [one["text"] for one in server.get("/api/stories/Changed")["messages"]] == ["Meanwhile"]
    assert votes(server) == before


def test_a_stopped_round_leaves_the_story_as_it_was(server: Server) -> None:
    server.post("/api/stories", name="Stopped")
    fields = {"text": "Count.", "sampling": {"ignore_eos": True}}
    with server.response("POST", "/api/stories/Stopped/round", fields) as response:
        while server.get("/slots")[0]["is_processing"] is False:
            pass
        assert server.request("POST", "/api/stories/Stopped/stop")[0] == 204
        assert "event: round" not in response.read().decode()
    assert server.get("/api/stories/Stopped")["messages"] == []
    assert server.get("/api/stories/Stopped/round") == {"round": None}


def test_the_result_counts_each_models_choices(server: Server) -> None:
    found = server.get("/api/preference")
    made = votes(server)
    own = [one["models"][one["chosen"]]["file"] for one in made if one["chosen"] is not None]
    assert {one["name"]: one["chosen"] for one in found["models"]} == {
        path.stem: own.count(path.name) for path in (smollm2(), other_smollm2())
    }
    assert found["choices"] == len(made) == server.get("/api/desk")["choices"]
    assert found["equal"] == len(made) - len(own)
    assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1


def test_a_cut_line_in_the_file_spoils_no_other(server: Server) -> None:
    before = server.get("/api/preference")["choices"]
    with file_of(server).open("a") as file:
        file.write('{"version": 1, "mod')
    server.post("/api/stories", name="Cut")
    found = asked(server, "Cut", max_tokens=2)
    answer = server.post("/api/stories/Cut/round/choice", id=found["id"], choice="equal")
    assert answer["choices"] == before + 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"action": "dance"}, 400), ({"text": ""}, 400), ({"sampling": {"top_p": 9}}, 400)],
)
def test_wrong_requests_are_refused(server: Server, fields: dict[str, Any], status: int) -> None:
    server.post("/api/stories")
    name = server.get("/api/stories")["stories"][0]["name"].replace(" ", "%20")
    assert server.request("POST", f"/api/stories/{name}/round", fields)[0] == status
    wrong = {"id": "x", "choice": "third"}
    assert server.request("POST", f"/api/stories/{name}/round/choice", wrong)[0] == 400


def test_a_server_with_one_model_has_no_rounds(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.post("/api/stories", name="One")
        status, error = server.request("POST", "/api/stories/One/round", {"text": "Hi"})
        assert status == 404 and "--compare-with" in error["error"]["message"]
        assert server.get("/api/desk")["choices"] is None
