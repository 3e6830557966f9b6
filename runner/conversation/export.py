"""A conversation as a file to read: Markdown, plain text, a web page, or SillyTavern's lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from franken_gguf.runner.terminal.ansi_filter import EscapeFilter

from .conversation import NOTE, Conversation
from .export_html import page
from .session import replacing
from .session_format import SessionError, encode, names


def write_transcript(path: Path, conversation: Conversation, model: str) -> None:
    """Write all that was said to a new file, in the form its suffix names.

    Raises SessionError where the suffix names none or the file exists.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        *forms, last = FORMS
        raise SessionError(f"{path}: name it {', '.join(forms)} or {last}, for the form it has")
    if path.exists():
        raise SessionError(f"{path}: exists already; choose another name")
    try:
        with replacing(path) as part:
            text = form(conversation, path.stem, model)
            part.write_bytes(text.encode(errors="replace"))
    except OSError as error:
        raise SessionError(f"{path}: {error.strerror}") from None


def _text(conversation: Conversation, mark: str = "") -> str:
    said = spoken(conversation)
    return "\n".join(f"{mark}{name}:{mark} {text.strip()}\n" for name, text, _ in said)


def spoken(conversation: Conversation) -> Iterator[tuple[str, str, bool]]:
    """Who said what, and whether that was the user; no notes, and nothing that steers a screen."""
    user, character = names(conversation)
    # What the model wrote must not steer the terminal of who reads the file.
    safe = EscapeFilter()
    for message in conversation.messages:
        if message.role != NOTE:
            is_user = message.role == "user"
            name = message.extra_fields.get("name") or (user if is_user else character)
            yield safe.feed(f"{name}\n")[:-1], safe.feed(f"{message.content}\n")[:-1], is_user


FORMS: dict[str, Callable[[Conversation, str, str], str]] = {
    ".md": lambda conversation, _, __: _text(conversation, "**"),
    ".txt": lambda conversation, _, __: _text(conversation),
    ".html": lambda conversation, title, _: page(title, spoken(conversation)),
    ".jsonl": lambda conversation, _, model: encode(conversation, model),
}
