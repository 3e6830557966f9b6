"""What has been said: the state of a chat, without screen, engine or template."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """One message. `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass
class Conversation:
    """A system text, which always stands first and stays, and the messages after it."""

    system: str = ""
    messages: list[Message] = field(default_factory=list)

    def with_question(self, text: str) -> list[Message]:
        """All messages and the user's new one, which is not kept yet."""
        first = [Message("system", self.system)] if self.system else []
        return [*first, *self.messages, Message("user", text)]

    def keep(self, question: str, answer: str) -> None:
        """Add a finished turn."""
        self.messages += [Message("user", question), Message("assistant", answer)]

    def drop_oldest_turn(self) -> bool:
        """Forget the oldest user message and all that answers it; False where there is none."""
        later = [n for n, message in enumerate(self.messages) if n and message.role == "user"]
        had_any = bool(self.messages)
        self.messages = self.messages[later[0] :] if later else []
        return had_any

    def clear(self) -> None:
        """Forget everything but the system text."""
        self.messages.clear()
