"""Records an answer while it streams, so that its session can be saved after a crash."""

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
    """The pieces of `answer`. If this process dies meanwhile, the supervisor saves what arrived.

    Before the first word, that is the conversation without an answer.
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
    """Record the session's file, split at each `marker`, which stands for the answer.

    There can be several: a swipe is also in the message's list of swipes.
    """
    if dialogue.session is None:
        return
    messages = answer.messages(marker) if marker else answer.messages_before()
    conversation = replace(dialogue.chat.conversation, messages=messages)
    content = encode(conversation, dialogue.model).encode(errors="replace")
    parts = content.split(marker.encode()) if marker else [content]
    recorder.begin(dialogue.session.path, parts)
