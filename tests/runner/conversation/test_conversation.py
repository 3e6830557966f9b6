"""What a conversation keeps, forgets and takes back, without a model."""

from __future__ import annotations

import pytest

from franken_gguf.runner.conversation.conversation import (
    NOTE,
    Conversation,
    ConversationError,
    Message,
    turn_starts,
)

GREETING = Message("assistant", "Welcome.")
ONE, ANSWER_ONE = Message("user", "one"), Message("assistant", "1")
TWO, ANSWER_TWO = Message("user", "two"), Message("assistant", "2")


def conversation(*messages: Message, system: str = "Be kind.") -> Conversation:
    return Conversation(system, list(messages))


def test_the_model_reads_the_system_text_first_and_no_notes() -> None:
    talk = conversation(GREETING, Message(NOTE, "hidden"), ONE)
    assert talk.read_by_model() == [Message("system", "Be kind."), GREETING, ONE]
    assert conversation(ONE, system="").read_by_model() == [ONE]


def test_what_is_forgotten_is_not_read_and_its_summary_follows_the_system_text() -> None:
    talk = conversation(ONE, ANSWER_ONE, TWO)
    talk.forgotten = 2
    assert talk.read_by_model() == [Message("system", "Be kind."), TWO]
    talk.memory = "One was asked."
    assert talk.read_by_model()[0] == Message(
        "system", "Be kind.\n\nSummary of the conversation so far:\nOne was asked."
    )
    assert talk.messages == [ONE, ANSWER_ONE, TWO]


def test_turns_begin_at_the_users_messages_and_the_first_where_the_window_does() -> None:
    messages = [GREETING, ONE, ANSWER_ONE, Message(NOTE, ""), TWO, ANSWER_TWO]
    assert turn_starts(messages, 0) == [1, 4]
    assert turn_starts(messages, 1) == [4]
    assert turn_starts(messages, 4) == []


def test_undo_takes_back_the_last_question_and_all_after_it() -> None:
    talk = conversation(GREETING, ONE, ANSWER_ONE, TWO, ANSWER_TWO)
    assert talk.undo() == "two"
    assert talk.undo() == "one"
    assert talk.messages == [GREETING]
    with pytest.raises(ConversationError, match="no question yet"):
        talk.undo()


def test_the_last_answer_is_the_models_last_message() -> None:
    assert conversation(ONE, ANSWER_ONE, Message(NOTE, "")).last_answer() == 1
    assert conversation(GREETING).last_answer() == 0
    with pytest.raises(ConversationError, match="no answer yet"):
        conversation(GREETING, ONE).last_answer()


def test_clear_forgets_everything_and_the_transcript_stays() -> None:
    talk = conversation(ONE, ANSWER_ONE)
    talk.memory = "old"
    talk.clear()
    assert talk.read_by_model() == [Message("system", "Be kind.")]
    assert talk.messages == [ONE, ANSWER_ONE]
    for taking_back in (talk.undo, talk.last_answer):
        with pytest.raises(ConversationError):
            taking_back()
