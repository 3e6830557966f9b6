"""What has been said: the state of a chat, without screen, engine or template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

NOTE = "note"  # the role of a message that stands in the session and that no model reads
MEMORY_HEADING = "What was said before, in short:"


class ConversationError(FrankenError):
    """There is nothing to answer again, to go on with or to take back."""


@dataclass(frozen=True)
class Message:
    """One message. `role` is "system", "user", "assistant" or NOTE."""

    role: str
    content: str
    date: str = field(default="", compare=False)
    """When it was said, as the session file has it."""
    extra_fields: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What else a session file says of it, untouched: its alternatives (`swipes`), for one."""


@dataclass
class Conversation:
    """A system text, which always stands first and stays, and all messages after it.

    The first `forgotten` messages are in the transcript alone, no longer in what the model reads;
    `memory` is a summary of what they contained. `extra_fields` is the rest of a session file,
    unchanged.
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
        """What the model reads of `messages` (its own), without the first `forgotten` (its own).

        `system` is the system text where it is not the conversation's own.

        The memory stands at the end of the system text: where templates and models expect what is
        always true, and before all turns, so that those stay as they were evaluated.
        """
        messages = self.messages if messages is None else messages
        memory = f"{MEMORY_HEADING}\n{self.memory}" if self.memory else ""
        system = "\n\n".join(filter(None, (self.system if system is None else system, memory)))
        turns = messages[self.forgotten if forgotten is None else forgotten :]
        first = [Message("system", system)] if system else []
        return [*first, *(message for message in turns if message.role != NOTE)]

    def last_answer(self) -> int:
        """The index of the model's last message. Raises ConversationError where it said nothing."""
        for place in range(len(self.messages) - 1, self.forgotten - 1, -1):
            role = self.messages[place].role
            if role == "assistant":
                return place
            if role == "user":
                break
        raise ConversationError("there is no answer yet; ask something first")

    def undo(self) -> str:
        """Take back the last user message and all after it, and give its text.

        Raises ConversationError where there is none.
        """
        place = self.last_question()
        question = self.messages[place].content
        del self.messages[place:]
        return question

    def last_question(self) -> int:
        """The index of the last user message. Raises ConversationError where there is none."""
        for place in range(len(self.messages) - 1, self.forgotten - 1, -1):
            if self.messages[place].role == "user":
                return place
        raise ConversationError("there is no question yet; ask something first")

    def clear(self) -> None:
        """Forget everything but the system text; the transcript stays."""
        self.forgotten = len(self.messages)
        self.memory = ""


def turn_starts(messages: Sequence[Message], first: int) -> list[int]:
    """Where the turns after the one at `first` begin: the indices of later user messages."""
    return [n for n in range(first + 1, len(messages)) if messages[n].role == "user"]
