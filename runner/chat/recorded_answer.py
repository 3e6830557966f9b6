"""An answer as it comes, recorded so that its session can be saved after a crash."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace

from franken_gguf.runner.conversation.session_format import SessionError, encode
from franken_gguf.runner.crash.flight_recorder import recorder

from .answer import Answer, Piece, Text
from .dialogue import Dialogue

_quoted = json.JSONEncoder(ensure_ascii=False).encode


def recorded(dialogue: Dialogue, answer: Answer) -> Generator[Piece, None, None]:
    """The pieces of `answer`. Should the process die meanwhile, what came is saved by another.

    Until the first word that is the conversation without an answer.
    """
    with closing(iter(answer)) as pieces:
        if not recorder.is_read:
            yield from pieces
            return
        with suppress(SessionError):  # `save` reports it
            dialogue.begin_session()
        _begin(dialogue, answer)
        for piece in pieces:
            if isinstance(piece, Text):
                if answer.text == piece.text:
                    _begin(dialogue, answer, uuid.uuid4().hex)
                recorder.add(_quoted(piece.text)[1:-1].encode(errors="replace"))
            yield piece


def _begin(dialogue: Dialogue, answer: Answer, marker: str = "") -> None:
    """Record the session's file; where the answer stands in it is found by the `marker`.

    There may be several such places: a swipe stands in a list beside the message, too.
    """
    if dialogue.session is None:
        return
    messages = answer.messages(marker) if marker else answer.messages_before()
    conversation = replace(dialogue.chat.conversation, messages=messages)
    content = encode(conversation, dialogue.model).encode(errors="replace")
    parts = content.split(marker.encode()) if marker else [content]
    recorder.begin(dialogue.session.path, parts)
