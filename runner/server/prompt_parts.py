"""What a model reads of a story, part by part: its text, its tokens, and why it is there."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.story.author_note import note_of
from franken_gguf.runner.story.message_layout import bracketed


def prompt_parts(chat: Chat) -> dict[str, Any]:
    """The prompt of the story's next answer. Raises PromptError.

    The template's own words are the text between the messages. A message's part holds the lore and
    the notes that stand in it; the parts of these name it. Tokens are those of the whole prompt, so
    a token that spans two parts counts for the first.
    """
    conversation, story, vocabulary = chat.conversation, chat.story, chat.engine.vocabulary
    read = story.read(conversation, conversation.messages, conversation.forgotten)
    read = read or [Message("user", "")]
    text = chat.template.render(read)
    tokens = vocabulary.prompt(text)
    ends: list[int] = []
    length = 0
    for token in tokens:
        length += len(vocabulary.spelling(token).decode(errors="replace"))
        ends.append(length)
    # A BOS token that the text lacks, and SentencePiece's first space, are before the text.
    ahead = max(0, length - len(text))
    spans = _spans(text, read)
    parts, counted = [], 0
    for kind, start, end, index in spans:
        upto = bisect_right(ends, end + ahead) if end < len(text) else len(tokens)
        parts.append(
            {
                "kind": kind,
                "text": text[start:end],
                "tokens": upto - counted,
                "index": index,
            }
        )
        counted = upto
    return {
        "n_ctx": chat.engine.n_ctx,
        "tokens": len(tokens),
        "text": text,
        "parts": parts,
        "inserts": _inserts(chat),
        "dropped": conversation.forgotten,
    }


def _spans(text: str, read: list[Message]) -> list[tuple[str, int, int, int | None]]:
    """Kind, start, end and message of all parts of `text`, which lie side by side."""
    spans: list[tuple[str, int, int, int | None]] = []
    place = 0
    for index, message in enumerate(read):
        content = message.content.strip()
        start = text.find(content, place) if content else -1
        if start < 0:
            continue
        if start > place:
            spans.append(("template", place, start, None))
        kind = "system" if message.role == "system" else "message"
        place = start + len(content)
        spans.append((kind, start, place, index))
    if place < len(text):
        spans.append(("template", place, len(text), None))
    return spans


def _inserts(chat: Chat) -> list[dict[str, Any]]:
    """The lore, the author's note and the memory that stand in the messages."""
    count = chat.story.count_tokens
    found = [
        {
            "kind": "lore",
            "name": one.entry.label,
            "text": one.text,
            "tokens": count(one.text),
            "why": one.reason,
            "is_active": one.is_active,
        }
        for one in chat.story.lore_matches
    ]
    note, memory = note_of(chat.conversation), chat.conversation.memory
    if note:
        text = bracketed(note.text)
        found.append(_insert("note", text, count(text), f"{note.depth} messages before the end"))
    if memory:
        found.append(_insert("memory", memory, count(memory), "at the end of the system text"))
    return found


def _insert(kind: str, text: str, tokens: int, why: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": kind,
        "text": text,
        "tokens": tokens,
        "why": why,
        "is_active": True,
    }
