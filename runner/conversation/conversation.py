"""The messages of a chat and what of them the model reads; knows no screen and no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

NOTE = "note"  # the role of a message that is in the session but is never sent to the model
MEMORY_HEADING = "Summary of the conversation so far:"


class ConversationError(FrankenError):
    """There is no message to answer, continue, edit or undo."""


@dataclass(frozen=True)
class Message:
    """One message. `role` is "system", "user", "assistant" or NOTE."""

    role: str
    content: str
    date: str = field(default="", compare=False)
    """When it was written, as the session file spells it."""
    extra_fields: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Its other fields in the session file, unchanged: its alternatives (`swipes`), for example."""


@dataclass
class Conversation:
    """The system text, which the model always reads first, and all messages.

    The model no longer reads the first `forgotten` messages, which only the transcript keeps;
    `memory` is a summary of them. `extra_fields` are the other fields of the session file's first
    line, unchanged.
    """

    system: str = ""
    messages: list[Message] = field(default_factory=list)
    forgotten: int = 0
    memory: str = ""
    extra_fields: Mapping[str, Any] = field(default_factory=dict)

    def read_by_model(
        self,
        messages: Sequence[Message] | None = None,
        forgotten: int | None = None,
        system: str | None = None,
    ) -> list[Message]:
        """What the model reads: the system text, then `messages` without the first `forgotten`.

        What is None is the conversation's own. The memory is at the end of the system text: there
        templates and models expect what is always true, and the turns after it stay evaluated.
        """
        messages = self.messages if messages is None else messages
        memory = f"{MEMORY_HEADING}\n{self.memory}" if self.memory else ""
        system = "\n\n".join(filter(None, (self.system if system is None else system, memory)))
        turns = messages[self.forgotten if forgotten is None else forgotten :]
        first = [Message("system", system)] if system else []
        return [*first, *(message for message in turns if message.role != NOTE)]

    def last_answer(self) -> int:
        """The index of the model's last message. Raises ConversationError if there is none."""
        for place in range(len(self.messages) - 1, self.forgotten - 1, -1):
            role = self.messages[place].role
            if role == "assistant":
                return place
            if role == "user":
                break
        raise ConversationError("there is no answer yet; ask something first")

    def undo(self) -> str:
        """Remove the last user message and all after it, and return its text.

        Raises ConversationError if there is none.
        """
        place = self.last_question()
        question = self.messages[place].content
        del self.messages[place:]
        return question

    def last_question(self) -> int:
        """The index of the last user message. Raises ConversationError if there is none."""
        for place in range(len(self.messages) - 1, self.forgotten - 1, -1):
            if self.messages[place].role == "user":
                return place
        raise ConversationError("there is no question yet; ask something first")

    def clear(self) -> None:
        """Forget everything but the system text; the transcript stays."""
        self.forgotten = len(self.messages)
        self.memory = ""


def turn_starts(messages: Sequence[Message], first: int) -> list[int]:
    """The indices of the user messages after `first`: where the later turns begin."""
    return [n for n in range(first + 1, len(messages)) if messages[n].role == "user"]
