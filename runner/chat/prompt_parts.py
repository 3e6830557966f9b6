"""What a model reads of a story, part by part: its text, its tokens, and why it is there."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.conversation.thoughts import answer_of
from franken_gguf.runner.story.story import Story

from .chat import Chat


@dataclass(frozen=True)
class Part:
    """A piece of the prompt: "system", "message", or "template", the template's own words.

    `index` is the message's among those that the model reads.
    """

    kind: str
    text: str
    tokens: int
    index: int | None


@dataclass(frozen=True)
class Source:
    """A text that parts hold beside the messages, as `Paragraph`; lore also if it is inactive."""

    kind: str
    name: str
    text: str
    tokens: int
    why: str
    is_active: bool = True


@dataclass(frozen=True)
class PromptParts:
    """A prompt: its parts lie side by side, and their tokens add up to `tokens`."""

    n_ctx: int
    tokens: int
    text: str
    parts: list[Part]
    inserts: list[Source]
    dropped: int
    """How many messages have left the context."""


def prompt_parts(chat: Chat) -> PromptParts:
    """The prompt of the story's next answer. Raises PromptError.

    Tokens are those of the whole prompt, so a token that spans two parts counts for the first.
    """
    conversation, story, vocabulary = chat.conversation, chat.story, chat.engine.vocabulary
    story.await_question(conversation.messages)
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
    parts, counted = [], 0
    for kind, start, end, index in _spans(text, read):
        upto = bisect_right(ends, end + ahead) if end < len(text) else len(tokens)
        parts.append(Part(kind, text[start:end], upto - counted, index))
        counted = upto
    sources = [
        Source(one.kind, one.name, one.text, story.count_tokens(one.text), one.why)
        for one in story.paragraphs(conversation)
    ]
    return PromptParts(
        chat.engine.n_ctx,
        len(tokens),
        text,
        parts,
        [*sources, *_inactive_lore(story)],
        conversation.forgotten,
    )


def _spans(text: str, read: list[Message]) -> list[tuple[str, int, int, int | None]]:
    """Kind, start, end and message of all parts of `text`, which lie side by side."""
    spans: list[tuple[str, int, int, int | None]] = []
    place = 0
    for index, message in enumerate(read):
        content = message.content.strip()
        start = text.find(content, place) if content else -1
        if start < 0:  # many templates leave out earlier thoughts
            content = answer_of(content).strip()
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


def _inactive_lore(story: Story) -> list[Source]:
    return [
        Source("lore", one.entry.label, "", 0, one.reason, is_active=False)
        for one in story.lore_matches
        if not one.is_active
    ]
