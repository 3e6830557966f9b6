"""Writes a conversation as Markdown, plain text, a web page or SillyTavern's JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from franken_gguf.runner.terminal.ansi_filter import EscapeFilter

from .conversation import NOTE, Conversation
from .export_html import page
from .session import replacing
from .session_format import SessionError, encode, names


def write_transcript(path: Path, conversation: Conversation, model: str) -> None:
    """Write all messages to a new file, in the format of its suffix.

    Raises SessionError if the suffix is unknown or the file exists.
    """
    encoded = FORMATS.get(path.suffix.lower())
    if encoded is None:
        *suffixes, last = FORMATS
        raise SessionError(
            f"{path}: unknown format; use a name that ends in {', '.join(suffixes)} or {last}"
        )
    if path.exists():
        raise SessionError(f"{path}: already exists; choose another name")
    try:
        with replacing(path) as part:
            text = encoded(conversation, path.stem, model)
            part.write_bytes(text.encode(errors="replace"))
    except OSError as error:
        raise SessionError(f"{path}: {error.strerror}") from None


def _text(conversation: Conversation, mark: str = "") -> str:
    lines = named_messages(conversation)
    return "\n".join(f"{mark}{name}:{mark} {text.strip()}\n" for name, text, _ in lines)


def named_messages(conversation: Conversation) -> Iterator[tuple[str, str, bool]]:
    """Name, text and whether it is the user's, of each message but notes; no escape sequences."""
    user, character = names(conversation)
    # The file may be read at a terminal.
    safe = EscapeFilter()
    for message in conversation.messages:
        if message.role != NOTE:
            is_user = message.role == "user"
            name = message.extra_fields.get("name") or (user if is_user else character)
            yield safe.feed(f"{name}\n")[:-1], safe.feed(f"{message.content}\n")[:-1], is_user


FORMATS: dict[str, Callable[[Conversation, str, str], str]] = {
    ".md": lambda conversation, _, __: _text(conversation, "**"),
    ".txt": lambda conversation, _, __: _text(conversation),
    ".html": lambda conversation, title, _: page(title, named_messages(conversation)),
    ".jsonl": lambda conversation, _, model: encode(conversation, model),
}
