"""Personas are read from text and JSON files, and found by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.session import Sessions, data_folder
from franken_gguf.runner.server.bodies import Fields
from franken_gguf.runner.server.library import Library
from franken_gguf.runner.server.stories import Stories
from franken_gguf.runner.story.card_fields import StoryError
from franken_gguf.runner.story.persona import Persona, persona_path, read_persona
from franken_gguf.runner.story.saved_story import begin, opened


@pytest.mark.parametrize(
    ("file", "text", "persona"),
    [
        ("Ann.txt", "\ufeffKeeps bees.\r\nTall.\x1b\n", Persona("Ann", "Keeps bees.\nTall.")),
        ("a.json", '{"name": " Ann\\n", "description": "Tall."}', Persona("Ann", "Tall.")),
        ("Ann.JSON", '{"description": "Tall."}', Persona("Ann", "Tall.")),
    ],
)
def test_a_persona_is_a_name_and_a_description(
    tmp_path: Path, file: str, text: str, persona: Persona
) -> None:
    path = tmp_path / file
    path.write_text(text)
    assert read_persona(path) == persona


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("a.txt", b" \n", "it has no description of you"),
        ("a.json", b'{"name": "Ann"}', "it has no description of you"),
        ("a.json", b"[1]", "its JSON is not an object"),
        ("a.txt", b"\xff\xfe", "it is not UTF-8 text"),
        ("a.txt", b"x" * (1 << 20) + b"x", "it is larger than 1 MiB"),
    ],
)
def test_what_is_not_a_persona_is_refused_with_its_file(
    tmp_path: Path, file: str, data: bytes, reason: str
) -> None:
    path = tmp_path / file
    path.write_bytes(data)
    with pytest.raises(StoryError, match=f"^{re.escape(f'{path}: {reason}')}$"):
        read_persona(path)


def test_a_file_is_found_first_then_a_name_and_a_near_name_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    folder = data_folder() / "personas"
    folder.mkdir(parents=True)
    (folder / "Ann.txt").write_text("Tall.")
    assert persona_path("ann") == folder / "Ann.txt"
    Path("ann").write_text("Short.")
    assert persona_path("ann") == Path("ann")
    with pytest.raises(StoryError, match=r"Anne: no such file, .* did you mean Ann\?"):
        persona_path("Anne")


def test_the_personas_name_is_yours_unless_you_give_another(tmp_path: Path) -> None:
    path = tmp_path / "Ann.txt"
    path.write_text("{{user}} is tall.")
    for user, name in (("", "Ann"), ("Bea", "Bea")):
        conversation = Conversation()
        begin(conversation, user=user, persona=path)
        assert (opened(conversation).user, opened(conversation).persona) == (
            name,
            "{{user}} is tall.",
        )
    path.unlink()
    story = opened(conversation)
    assert story.persona == ""
    assert story.remarks == [
        f"{path}: no such file; the story continues without it, --persona FILE adds it again"
    ]


def test_a_server_begins_stories_with_its_persona(tmp_path: Path) -> None:
    path = tmp_path / "Ann.txt"
    path.write_text("{{user}} is tall.")
    stories = Stories(Sessions(tmp_path / "sessions"), Library(tmp_path), "model.gguf")
    stories.first_persona = path
    name = stories.begin(Fields({}))
    story = opened(stories.read(name))
    assert (story.user, story.persona) == ("Ann", "{{user}} is tall.")
