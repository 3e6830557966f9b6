"""Stories told in a chat of the tests, and what the model reads of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from franken_gguf.runner import Conversation
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.story.saved_story import begin
from support.cards import png, text_chunk


def tell(dialogue: Dialogue, folder: Path, *cards: dict[str, Any], lore: object = None) -> None:
    """Begin a story of these cards and this lore."""
    paths = []
    for number, card in enumerate(cards):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(png(text_chunk("chara", card)))
    books = [folder / "lore.json"] if lore else []
    for path in books:
        path.write_text(json.dumps(lore))
    conversation = Conversation()
    begin(conversation, paths, books, "Ann")
    dialogue.switch_to(None, conversation)


def read(dialogue: Dialogue) -> list[str]:
    """What the model reads now."""
    conversation = dialogue.chat.conversation
    story = dialogue.chat.story
    messages = story.read(conversation, conversation.messages, conversation.forgotten)
    return [message.content for message in messages]
