"""Stories over HTTP: the same files as `chat --session`, changed and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from franken_gguf.runner import Sessions
from support.cards import V2, png, text_chunk
from support.servers import Server, serving

GREEDY = {"temperature": 0}


def sessions(server: Server) -> Sessions:
    return Sessions(server.folder / "data/franken-gguf/sessions")


def answered(server: Server, name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The text of an answer, token by token, and what came at its end."""
    fields = {"sampling": GREEDY, "max_tokens": 12, **fields}
    events = server.events(f"/api/stories/{quote(name)}/answer", **fields)
    assert events[0][0] == "begin" and events[-1][0] == "done", events
    tokens = [data for kind, data in events if kind == "token"]
    assert [one["n"] for one in tokens] == list(range(len(tokens)))
    return "".join(one["text"] for one in tokens), events[-1][1]


def texts(story: dict[str, Any]) -> list[str]:
    return [message["text"] for message in story["messages"]]


def test_a_story_is_begun_told_and_saved_as_a_chats_session(server: Server) -> None:
    story = server.post("/api/stories", name="Tale", system="You tell stories.")
    assert (story["name"], story["messages"]) == ("Tale", [])
    text, done = answered(server, "Tale", action="ask", text="Tell me of the sea.")
    assert texts(done["story"]) == ["Tell me of the sea.", text]
    assert done["figures"]["tokens"] == 12 and done["finish"] == "length"
    more, done = answered(server, "Tale", action="continue")
    assert texts(done["story"]) == ["Tell me of the sea.", text + more]
    with sessions(server).open_saved("Tale") as session:
        conversation = session.read()
    assert conversation.system == "You tell stories."
    assert [message.content for message in conversation.messages] == texts(done["story"])
    assert [one["name"] for one in server.get("/api/stories")["stories"]] == ["Tale"]


def test_each_token_has_its_probability_and_what_might_have_come(server: Server) -> None:
    server.post("/api/stories", name="Odds")
    events = server.events("/api/stories/Odds/answer", text="Hi", sampling=GREEDY, max_tokens=4)
    tokens = [data for kind, data in events if kind == "token"]
    assert len(tokens) == 4
    for token in tokens:
        others = [one["probability"] for one in token["alternatives"]]
        assert all(share <= token["probability"] for share in others)
        assert sum(others) + token["probability"] <= 1.0001


def test_swipes_edits_and_another_word(server: Server) -> None:
    server.post("/api/stories", name="Swipes")
    first, _ = answered(server, "Swipes", text="Name a colour.")
    hot = {"temperature": 2.0, "seed": 4}
    second, done = answered(server, "Swipes", action="again", sampling=hot)
    message = done["story"]["messages"][1]
    assert (message["swipes"], message["swipe"]) == ([first, second], 1)
    _, found = server.request("PATCH", "/api/stories/Swipes/messages/1", {"swipe": 0})
    assert found["messages"][1]["text"] == first
    _, found = server.request("PATCH", "/api/stories/Swipes/messages/0", {"text": "Name a fish."})
    assert texts(found) == ["Name a fish.", first]
    rest, done = answered(server, "Swipes", action="continue", begun="I know a fish: the")
    assert texts(done["story"])[1] == "I know a fish: the" + rest
    other, done = answered(server, "Swipes", action="instead", text="Name a bird.")
    assert texts(done["story"]) == ["Name a bird.", other]


def test_a_branch_keeps_the_story_it_leaves_whole(server: Server) -> None:
    server.post("/api/stories", name="Trunk")
    for text in ("one", "two", "three"):
        server.post("/api/stories/Trunk/messages", role="user", text=text)
    branch = server.post("/api/stories/Trunk/branch", at=1)
    assert texts(branch) == ["one", "two"]
    assert branch["tree"] == [{"name": "Trunk", "depth": 0}, {"name": branch["name"], "depth": 1}]
    trunk = server.get("/api/stories/Trunk")
    assert texts(trunk) == ["one", "two", "three"]
    assert trunk["messages"][1]["branches"] == [branch["name"]]


def test_messages_are_added_replaced_and_removed(server: Server) -> None:
    server.post("/api/stories", name="Notebook")
    for role, text in (("user", "a"), ("assistant", "b"), ("note", "c")):
        server.post("/api/stories/Notebook/messages", role=role, text=text)
    server.post("/api/stories/Notebook/messages", role="user", text="first", at=0)
    _, found = server.request("DELETE", "/api/stories/Notebook/messages/1")
    assert texts(found) == ["first", "b", "c"]
    whole = [{"role": one["role"], "text": one["text"].upper()} for one in found["messages"]]
    _, found = server.request("PUT", "/api/stories/Notebook/messages", {"messages": whole})
    assert texts(found) == ["FIRST", "B", "C"]
    assert [one["role"] for one in found["messages"]] == ["user", "assistant", "note"]
    _, found = server.request("DELETE", "/api/stories/Notebook/messages/1?rest=true")
    assert texts(found) == ["FIRST"]


def test_a_card_is_uploaded_played_and_shown_in_the_prompt(server: Server) -> None:
    picture = png(text_chunk("chara", V2))
    status, card = server.request("POST", "/api/cards?file=mara.png", picture)
    assert (status, card["name"], card["has_picture"]) == (201, "Mara", True)
    assert [one["id"] for one in server.get("/api/cards")["cards"]] == [card["id"]]
    with server.response("GET", f"/api/cards/{card['id']}/picture") as response:
        assert response.read() == picture
    story = server.post("/api/stories", name="Skerry", cards=[card["id"]], user="Ann")
    assert story["speakers"] == ["Mara"]
    assert story["messages"][0]["text"] == "Come in, Ann, before the sea does."
    assert len(story["messages"][0]["swipes"]) == 3
    answered(server, "Skerry", text="Is the lamp lit?")
    read = server.get("/api/stories/Skerry/prompt")
    assert "".join(part["text"] for part in read["parts"]) == read["text"]
    assert sum(part["tokens"] for part in read["parts"]) == read["tokens"]
    assert [part["kind"] for part in read["parts"]][:2] == ["template", "system"]
    assert "The lamp burns whale oil." in read["text"]
    (lore,) = [one for one in read["inserts"] if one["kind"] == "lore"]
    assert lore["is_active"] and "lamp" in lore["why"]
    assert server.request("DELETE", f"/api/cards/{card['id']}")[0] == 204
    assert server.get("/api/stories/Skerry")["remarks"]


def test_a_lorebook_has_the_name_of_its_file(server: Server) -> None:
    world = {"entries": {"0": {"key": ["sea"], "content": "The sea is grey.", "uid": 0}}}
    status, book = server.request("POST", "/api/lorebooks?file=Skerry%20Rock.json", world)
    assert (status, book["name"], book["entries"]) == (201, "Skerry Rock", 1)
    story = server.post("/api/stories", name="Lore", lorebooks=[book["id"]])
    assert [one["id"] for one in story["lorebooks"]] == [book["id"]]
    assert server.request("POST", "/api/lorebooks?file=x.json", b"{}")[0] == 400


def test_facts_change_and_a_story_moves_to_another_name(server: Server) -> None:
    server.post("/api/stories", name="Old name")
    facts = {"name": "New name", "memory": "It rained.", "note": {"text": "Be brief.", "depth": 2}}
    status, story = server.request("PATCH", "/api/stories/Old%20name", facts)
    assert (status, story["name"], story["memory"]) == (200, "New name", "It rained.")
    assert story["note"] == {"text": "Be brief.", "depth": 2}
    assert server.request("GET", "/api/stories/Old%20name")[0] == 404
    assert server.request("DELETE", "/api/stories/New%20name")[0] == 204
    assert server.request("GET", "/api/stories/New%20name")[0] == 404


def test_a_story_is_imported_and_exported_as_it_was(server: Server) -> None:
    server.post("/api/stories", name="Out")
    server.post("/api/stories/Out/messages", role="user", text="<b>Hello</b> 🙂")
    _, lines = server.request("GET", "/api/stories/Out/export?form=jsonl")
    assert json.loads(lines.split("\n")[1])["mes"] == "<b>Hello</b> 🙂"
    status, story = server.request("POST", "/api/stories/import?name=In", lines.encode())
    assert (status, story["name"], texts(story)) == (201, "In", ["<b>Hello</b> 🙂"])
    _, page = server.request("GET", "/api/stories/Out/export?form=html")
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page
    assert server.request("GET", "/api/stories/Out/export?form=exe")[0] == 400


def test_a_persona_of_the_library_is_chosen_by_name_and_no_other_file_is_read(
    server: Server, tmp_path: Path
) -> None:
    folder = server.folder / "data/franken-gguf/personas"
    folder.mkdir(parents=True)
    (folder / "Ann.txt").write_text("{{user}} keeps bees.")
    assert server.get("/api/desk")["personas"] == ["Ann"]
    story = server.post("/api/stories", name="Bees", persona="Ann")
    assert (story["persona"], story["user"]) == ("Ann", "Ann")
    server.post("/api/stories/Bees/messages", role="user", text="Hello")
    assert "Ann keeps bees." in server.get("/api/stories/Bees/prompt")["text"]
    _, story = server.request("PATCH", "/api/stories/Bees", {"persona": ""})
    assert (story["persona"], story["user"]) == ("", "Ann")
    assert "bees" not in server.get("/api/stories/Bees/prompt")["text"]
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    for name in (str(secret), "../personas/Ann", "Bob"):
        status, found = server.request("PATCH", "/api/stories/Bees", {"persona": name})
        assert status == 400 and "(Ann)" in found["error"]["message"]
    chat = {
        "chat_metadata": {
            "franken_gguf_story": {"persona": str(secret), "characters": [str(secret)]}
        }
    }
    lines = "\n".join(map(json.dumps, (chat, {"is_user": True, "mes": "Hello"})))
    _, story = server.request("POST", "/api/stories/import?name=Theirs", lines.encode())
    assert (story["persona"], story["cards"], story["remarks"]) == ("", [], [])
    assert "secret" not in server.get("/api/stories/Theirs/prompt")["text"]


def test_a_story_that_another_program_has_open_cannot_be_changed(server: Server) -> None:
    server.post("/api/stories", name="Busy")
    server.post("/api/stories/Busy/messages", role="user", text="x")
    with sessions(server).open("Busy"):
        status, found = server.request("POST", "/api/stories/Busy/messages", {"text": "y"})
        assert (status, found["error"]["type"]) == (409, "conflict_error")
        events = server.events("/api/stories/Busy/answer", text="Hi")
        assert events[-1][0] == "error" and events[-1][1]["error"]["code"] == 409
        assert texts(server.get("/api/stories/Busy")) == ["x"]


def test_two_servers_may_share_the_folder_of_stories(server: Server, tiny: Path) -> None:
    server.post("/api/stories", name="Shared")
    fields = {"text": "Count to a thousand.", "sampling": {"ignore_eos": True}}
    with serving(server.folder, model=tiny) as other:
        with server.response("POST", "/api/stories/Shared/answer", fields) as response:
            response.read(1)
            status, found = other.request("POST", "/api/stories/Shared/messages", {"text": "x"})
            assert (status, found["error"]["type"]) == (409, "conflict_error")
            ((name, refused),) = other.events("/api/stories/Shared/answer", text="And I?")
            assert (name, refused["error"]["code"]) == ("error", 409)
            server.request("POST", "/api/stories/Shared/stop")
            response.read()
        other.post("/api/stories/Shared/messages", role="user", text="Now I.")
    assert texts(server.get("/api/stories/Shared"))[-1] == "Now I."


def test_a_change_for_an_older_revision_is_refused(server: Server) -> None:
    before = server.post("/api/stories", name="Twice")["revision"]
    fields = {"role": "user", "text": "a", "revision": before}
    assert server.request("POST", "/api/stories/Twice/messages", fields)[0] == 200
    assert server.request("POST", "/api/stories/Twice/messages", fields)[0] == 409


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", ".hidden", "%00", "a%2Fb", "x" * 300])
def test_no_name_leaves_the_folder(server: Server, name: str) -> None:
    assert server.request("GET", f"/api/stories/{name}")[0] in (400, 404)
    assert server.request("DELETE", f"/api/stories/{name}")[0] in (400, 404)


def test_stopping_keeps_what_has_been_written(server: Server) -> None:
    server.post("/api/stories", name="Stopped")
    fields = {"text": "Count to a thousand.", "sampling": {"ignore_eos": True}}
    with server.response("POST", "/api/stories/Stopped/answer", fields) as response:
        seen = response.read(2000)
        assert server.request("POST", "/api/stories/Stopped/stop")[0] == 204
        seen += response.read()
    last = seen.decode().strip().split("data: ")[-1]
    done = json.loads(last)
    assert done["finish"] == "interrupted"
    assert texts(server.get("/api/stories/Stopped")) == texts(done["story"])
    assert len(texts(done["story"])[1]) > 0


def test_the_desk_describes_every_setting(server: Server) -> None:
    desk = server.get("/api/desk")
    # The page has fields of its own for these two.
    described = desk["sampling"].keys() - {"grammar", "logit_bias"}
    assert {one["name"] for one in desk["settings"]} == described
    assert all(one["meaning"].endswith(".") for one in desk["settings"])
    assert "story" in desk["presets"] and "dry" in desk["samplers"]
