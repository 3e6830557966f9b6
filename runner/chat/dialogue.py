"""A chat and the session that it is saved to; the slash commands work on this."""

from __future__ import annotations

from dataclasses import dataclass, field

from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.session import Session, Sessions
from franken_gguf.runner.crash.flight_recorder import recorder
from franken_gguf.runner.story.saved_story import opened

from .answer import Answer
from .answer_figures import Figures
from .chat import Chat
from .kept_settings import KeptSettings


@dataclass
class Totals:
    """Tokens and seconds of all answers so far."""

    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0
    prompt_evaluated: int = 0
    prompt_reused: int = 0

    def add(self, answer: Answer) -> None:
        """Add the figures of one more answer."""
        done = answer.generation
        self.answers += 1
        self.tokens += done.tokens
        self.seconds += done.seconds
        self.prompt_evaluated += done.prompt_evaluated
        self.prompt_reused += done.prompt_reused


@dataclass
class Dialogue:
    """A chat and its session. With `autosave`, the first save starts a session if there is none."""

    chat: Chat
    model: str
    sessions: Sessions
    autosave: bool = False
    session: Session | None = None
    settings: KeptSettings | None = None
    """Keeps the chat's settings with the conversation; None leaves both as they are."""
    figures: Figures = "short"
    """Which figures are shown after each answer."""
    totals: Totals = field(default_factory=Totals)
    remarks: tuple[str, ...] = ()
    """Lines for the user about the conversation that was opened last."""

    def switch_to(self, session: Session | None, conversation: Conversation) -> None:
        """Continue with `conversation`, which is saved to `session` from now on, if any."""
        self.close()
        self.session = session
        self.chat.conversation = conversation
        self.reopen_story()
        settings = self.settings.restore() if self.settings else ""
        self.remarks = tuple(filter(None, (session.remark if session else "", settings)))

    def reopen_story(self) -> None:
        """Use the story that the conversation now names."""
        self.chat.set_story(opened(self.chat.conversation))

    def save_as(self, session: Session) -> None:
        """Save the conversation to another session and continue there. Raises SessionError."""
        self.close()
        self.session = session
        self.save()

    def save(self) -> None:
        """Save the conversation to the session's file. Raises SessionError."""
        conversation = self.chat.conversation
        try:
            # An empty chat would only clutter the list of sessions.
            if not conversation.messages and not (self.session and self.session.exists()):
                return
            self.begin_session()
            if self.session is not None:
                if self.settings:
                    self.settings.keep()
                self.session.save(conversation, self.model)
        finally:
            recorder.forget()

    def begin_session(self) -> None:
        """Start a session if there is none and `autosave` is set. Raises SessionError."""
        if self.session is None and self.autosave:
            self.session = self.sessions.open_new(self.model)

    def close(self) -> None:
        """Release the session, so that another chat can open it."""
        if self.session is not None:
            self.session.close()
            self.session = None
