"""Conversations as SillyTavern's JSON Lines; pure: text in, text out.

The first line is {"user_name", "character_name", "create_date", "chat_metadata"}, each later one a
message: {"name", "is_user", "is_system", "send_date", "mes", "extra"}. An answer can have
alternatives, "swipes"; "swipe_id" is the index of the one in "mes". Our own additions are under
chat_metadata.franken_gguf. Unknown keys are written back unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

from .conversation import NOTE, Conversation, Message
from .swipes import has_swipes, swipes

VERSION = 1
PARENT = "main_chat"  # in chat_metadata: the chat that this one branched from
_OURS = "franken_gguf"
_MAX_LINES = 1 << 20
_MAX_DEPTH = 64


class SessionError(FrankenError):
    """A session cannot be opened, read or written; its file is unchanged."""


def encode(conversation: Conversation, model: str = "") -> str:
    """The text of a session file; `model` is recorded for information."""
    kept = conversation.extra_fields
    user, character = names(conversation)
    ours = {
        "version": VERSION,
        "model": model,
        "system": conversation.system,
        "memory": conversation.memory,
        "forgotten": conversation.forgotten,
    }
    first = {
        "user_name": user,
        "character_name": character,
        **kept,
        "chat_metadata": {**kept.get("chat_metadata", {}), _OURS: ours},
    }
    lines = [first, *(_line(m, user, character) for m in conversation.messages)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


_NO_NAME = "unused"  # newer versions of SillyTavern write this and ignore the names there


def names(conversation: Conversation) -> tuple[str, str]:
    """The names of user and character: those of their last messages, else the first line's."""
    found = {"user": "User", "assistant": "Assistant"}
    for role, key in (("user", "user_name"), ("assistant", "character_name")):
        if conversation.extra_fields.get(key, _NO_NAME) != _NO_NAME:
            found[role] = conversation.extra_fields[key]
    for message in conversation.messages:
        if message.role in found and message.extra_fields.get("name"):
            found[message.role] = message.extra_fields["name"]
    return found["user"], found["assistant"]


def _line(message: Message, user: str, character: str) -> dict[str, Any]:
    line = {
        "name": user if message.role == "user" else character,
        "extra": {},
        **message.extra_fields,
        "is_user": message.role == "user",
        "is_system": message.role == NOTE,
        "send_date": message.date,
        "mes": message.content,
    }
    if has_swipes(message):
        line["swipes"], line["swipe_id"] = swipes(message)
    return line


def without_cut_line(text: str) -> str | None:
    """`text` without a last line that was not written to its end; None if it has none."""
    whole, newline, last = text.rpartition("\n")
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return whole + newline if last and whole else None
    return None


def decode(text: str, *, is_cut: bool = False) -> Conversation:
    """The conversation in a session file's text, `is_cut` if its last messages are missing.

    Raises SessionError, naming the line.
    """
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        raise SessionError(f"more than {_MAX_LINES} lines")
    if not lines[-1]:  # SillyTavern ends its files without a newline, we with one
        lines.pop()
    if not lines:
        raise SessionError("it is empty")
    first = _parsed(lines[0], 1, is_last=len(lines) == 1)
    kept = {**first, "chat_metadata": _member(first, "chat_metadata", dict, {}, 1)}
    for name in ("user_name", "character_name"):
        _member(kept, name, str, "", 1)
    if not {"user_name", "character_name", "chat_metadata"} & first.keys():
        raise SessionError("it is not a chat: line 1 has neither user_name nor character_name")
    messages = [
        _message(_parsed(line, n, is_last=n == len(lines)), n)
        for n, line in enumerate(lines[1:], 2)
    ]
    ours = _member(kept["chat_metadata"], _OURS, dict, {}, 1)
    version = _member(ours, "version", int, VERSION, 1)
    if version > VERSION:
        raise SessionError(
            f"a newer franken-gguf wrote it (format {version}, not {VERSION}); update franken-gguf"
        )
    forgotten = _member(ours, "forgotten", int, 0, 1)
    forgotten = min(forgotten, len(messages)) if is_cut else forgotten
    if not 0 <= forgotten <= len(messages):
        raise SessionError(
            f"line 1: 'forgotten' is {forgotten}; it must be 0 to {len(messages)}, the messages"
        )
    system, memory = (_member(ours, name, str, "", 1) for name in ("system", "memory"))
    return Conversation(_clean(system), messages, forgotten, _clean(memory), kept)


def parent(first_line: str) -> str:
    """The name of the chat that a session branched from; "" if there is none."""
    try:
        metadata = _parsed(first_line, 1, is_last=False).get("chat_metadata")
    except SessionError:
        return ""
    found = metadata.get(PARENT) if isinstance(metadata, dict) else None
    return found.removesuffix(".jsonl") if isinstance(found, str) else ""


def _parsed(line: str, number: int, *, is_last: bool) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        cut = "; it is the last line, the file may be cut off" if is_last else ""
        raise SessionError(f"line {number} is not JSON{cut}") from None
    if not isinstance(found, dict) or not _is_shallow(found):
        raise SessionError(f"line {number} is not a JSON object, or is nested too deeply")
    return found


def _is_shallow(value: Any) -> bool:
    """Whether `value` can be encoded again: Python's json recurses."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [item for items in inner for item in items]
    return not level


def _message(line: dict[str, Any], number: int) -> Message:
    content = _member(line, "mes", str, None, number)
    is_user = _member(line, "is_user", bool, False, number)
    is_note = _member(line, "is_system", bool, False, number)
    _member(line, "name", str, "", number)
    date = line.get("send_date", "")  # a number, in old files
    kept = {key: value for key, value in line.items() if key not in _WRITTEN}
    role = NOTE if is_note else "user" if is_user else "assistant"
    return Message(role, _clean(content), _clean(str(date)), kept)


_WRITTEN = {"mes", "is_user", "is_system", "send_date"}


def _member(line: Mapping[str, Any], name: str, kind: type, default: Any, number: int) -> Any:
    found = line.get(name, default)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise SessionError(f"line {number}: {name!r} is missing or not {_KINDS[kind]}")
    return found


_KINDS = {dict: "an object", str: "text", int: "a whole number", bool: "true or false"}


def _clean(text: str) -> str:
    r"""`text` without lone surrogates (\ud800): JSON can hold them, UTF-8 and tokenizers cannot."""
    return text.encode(errors="replace").decode()
