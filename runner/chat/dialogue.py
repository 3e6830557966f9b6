"""A chat and the session that it is saved to: what the commands of a conversation work on."""

from __future__ import annotations

from dataclasses import dataclass, field

from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.session import Session, Sessions
from franken_gguf.runner.crash.flight_recorder import recorder
from franken_gguf.runner.story.saved_story import opened

from .answer import Answer
from .answer_figures import Figures
from .chat import Chat


@dataclass
class Totals:
    """What all answers so far took."""

    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0
    prompt_evaluated: int = 0
    prompt_reused: int = 0

    def add(self, answer: Answer) -> None:
        """Count one more answer."""
        done = answer.generation
        self.answers += 1
        self.tokens += done.tokens
        self.seconds += done.seconds
        self.prompt_evaluated += done.prompt_evaluated
        self.prompt_reused += done.prompt_reused


@dataclass
class Dialogue:
    """Joins a chat with its session. Without one, `autosave` says whether to begin one."""

    chat: Chat
    model: str
    sessions: Sessions
    autosave: bool = False
    session: Session | None = None
    figures: Figures = "short"
    """What is shown after each answer."""
    totals: Totals = field(default_factory=Totals)

    def go_on(self, session: Session | None, conversation: Conversation) -> None:
        """Go on with what an open session holds, or without one."""
        self.close()
        self.session = session
        self.chat.conversation = conversation
        self.chat.set_story(opened(conversation))

    def move_to(self, session: Session) -> None:
        """Save what has been said under another name and go on there. Raises SessionError."""
        self.close()
        self.session = session
        self.save()

    def save(self) -> None:
        """Bring the session's file to what has been said. Raises SessionError."""
        conversation = self.chat.conversation
        try:
            # A file for a chat in which nothing was said would only hide the others.
            if not conversation.messages and not (self.session and self.session.exists()):
                return
            self.begin_session()
            if self.session is not None:
                self.session.save(conversation, self.model)
        finally:
            recorder.forget()

    def begin_session(self) -> None:
        """Have a session to save to, where one is wanted. Raises SessionError."""
        if self.session is None and self.autosave:
            self.session = self.sessions.open_new(self.model)

    def close(self) -> None:
        """Let another chat have the session."""
        if self.session is not None:
            self.session.close()
            self.session = None
