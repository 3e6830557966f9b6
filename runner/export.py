"""A conversation as a file to read: Markdown, plain text, or the session's own JSON Lines."""

from __future__ import annotations

from pathlib import Path

from .conversation import NOTE, Conversation
from .escapes import EscapeFilter
from .session_format import SessionError, encode, names


def write_transcript(path: Path, conversation: Conversation, model: str) -> None:
    """Write all that was said to a new file, in the form its suffix names.

    Raises SessionError where the suffix names none or the file exists.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        text = encode(conversation, model)
    elif suffix in (".md", ".txt"):
        text = _readable(conversation, "**" if suffix == ".md" else "")
    else:
        raise SessionError(f"{path}: name it .md, .txt or .jsonl, for the form it shall have")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SessionError(f"{path}: is there already; take another name") from None
    except OSError as error:
        raise SessionError(f"{path}: {error.strerror}") from None


def _readable(conversation: Conversation, mark: str) -> str:
    user, character = names(conversation)
    parts = []
    for message in conversation.messages:
        if message.role != NOTE:
            name = message.kept.get("name") or (user if message.role == "user" else character)
            parts.append(f"{mark}{name}:{mark} {message.content.strip()}\n")
    # What the model wrote must not steer the terminal of who reads the file.
    return EscapeFilter().feed("\n".join(parts))
