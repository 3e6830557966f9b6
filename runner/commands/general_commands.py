"""What the general commands do, such as /set and /save; they return what a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.answer import Answer
from franken_gguf.runner.chat.answer_figures import Figures
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.impersonation import Draft
from franken_gguf.runner.chat.prompt_parts import prompt_parts
from franken_gguf.runner.chat.replay import Line, Replay
from franken_gguf.runner.conversation.conversation import NOTE, Message
from franken_gguf.runner.conversation.export import write_transcript
from franken_gguf.runner.conversation.session_format import SessionError
from franken_gguf.runner.conversation.thoughts import thoughts_of
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.terminal.ansi_filter import EscapeFilter
from franken_gguf.runner.terminal.graphemes import beginning, spelled
from franken_gguf.runner.terminal.text import printable, size

from .listing import shortened, table
from .prompt_view import prompt_view
from .sampling_commands import Experts, Probabilities, settings


class CommandError(FrankenError):
    """An unknown command, or one that cannot be carried out."""


@dataclass(frozen=True)
class Edit:
    """A message for the user to edit; `place` is its index."""

    text: str
    place: int


@dataclass(frozen=True)
class Copy:
    """A text for the clipboard."""

    text: str


class Leave:
    """The user leaves the chat."""


class Help:
    """The list of commands."""


Outcome = (
    str | Answer | Edit | Draft | Copy | Card | Replay | Probabilities | Experts | Help | Leave
)
"""What a command returns. A string is a notice; Answer and Draft are not generated yet."""


def clear(dialogue: Dialogue, _: str) -> str:
    """Clear the context: the model no longer reads the messages so far."""
    dialogue.chat.conversation.clear()
    return "context cleared; the system text and the saved transcript are kept"


def undo(dialogue: Dialogue, _: str) -> str:
    """Remove the last question and its answer."""
    text = EscapeFilter().feed(dialogue.chat.conversation.undo())
    return f"removed: {beginning(text, _MOST_SHOWN)}"


_MOST_SHOWN = 400  # characters


def system(dialogue: Dialogue, text: str) -> str:
    """Set the system text; an empty text removes it."""
    conversation = dialogue.chat.conversation
    conversation.system = text
    return "system text set" if text else "system text removed"


def show(dialogue: Dialogue, what: str) -> str:
    """The state of the chat, or one part of it in full."""
    conversation = dialogue.chat.conversation
    if what == "system":
        return conversation.system or "no system text"
    if what == "memory":
        return conversation.memory or "no memory yet"
    if what == "messages":
        return _numbered(conversation.messages) or "there are no messages yet"
    if what == "template":
        return dialogue.chat.template.source
    if what == "prompt":
        return prompt_view(prompt_parts(dialogue.chat))
    if what == "parameters":
        return table(settings(dialogue.chat))
    if what not in ("", "info"):
        raise CommandError(f"cannot show {what!r}; choose {', '.join(SHOWN)}")
    left = f", the first {conversation.forgotten} no longer in the context"
    left = left if conversation.forgotten else ""
    return table(
        {
            "model": dialogue.model,
            "session": dialogue.session.name if dialogue.session else "not saved",
            "messages": f"{len(conversation.messages)}{left}",
            "context": _context(dialogue),
            "system": " ".join(conversation.system.split())[:60] or "none",
        }
    )


SHOWN = ["info", "system", "memory", "messages", "prompt", "template", "parameters"]


def _numbered(messages: Sequence[Message]) -> str:
    width = len(str(len(messages)))
    return "\n".join(
        f"{n:>{width}}  {message.role:9}  {shortened(message.content)}"
        for n, message in enumerate(messages, 1)
    )


def save(dialogue: Dialogue, name: str) -> str:
    """Save now; with a new name, continue as that session."""
    if not dialogue.chat.conversation.messages:
        raise CommandError("there are no messages yet")
    if name and not (dialogue.session and name == dialogue.session.name):
        session = dialogue.sessions.open(name)
        if session.exists():
            session.close()
            raise CommandError(f"session {session.name!r} already exists; choose another name")
        dialogue.save_as(session)
    dialogue.save()
    if dialogue.session is None:
        raise CommandError("this chat is not saved; give it a name: /save NAME")
    return f"saved as {dialogue.session.name!r}: {dialogue.session.path}"


def load(dialogue: Dialogue, name: str) -> Replay:
    """Resume a saved chat in place of this one."""
    session = dialogue.sessions.open_saved(name)
    try:
        conversation = session.read()
    except SessionError:
        session.close()
        raise
    dialogue.switch_to(session, conversation)
    return resumed(dialogue, *dialogue.chat.story.remarks, *dialogue.remarks)


def resumed(dialogue: Dialogue, *remarks: str) -> Replay:
    """`remarks`, the session's name and length, and its messages from the last question on."""
    conversation, session = dialogue.chat.conversation, dialogue.session
    assert session is not None
    messages = conversation.messages
    count = "1 message" if len(messages) == 1 else f"{len(messages)} messages"
    start = max((n for n, one in enumerate(messages) if one.role == "user"), default=0)
    lines = (as_line(dialogue, one) for one in messages[start:] if one.role != NOTE)
    notice = "\n".join([*remarks, f"resumed {session.name!r}, {count}"])
    return Replay(notice, tuple(lines), is_cut=True)


def as_line(dialogue: Dialogue, message: Message) -> Line:
    """A message to be shown again."""
    speaker = dialogue.chat.story.speaker_of(message)
    return Line(message.content.strip(), speaker, message.role == "user")


def sessions(dialogue: Dialogue, _: str) -> str:
    """The saved chats, the latest first."""
    listed = dialogue.sessions.all()
    if not listed:
        return "no saved chats yet"
    here = dialogue.session.name if dialogue.session else ""
    lines = [
        f"{'*' if one.name == here else ' '} {one.changed:%Y-%m-%d %H:%M}  "
        f"{size(one.nbytes):>9}  {one.name}"
        for one in listed[:_LISTED]
    ]
    if len(listed) > _LISTED:
        lines.append(f"  and {len(listed) - _LISTED} older ones in {dialogue.sessions.folder}")
    return "\n".join(lines)


_LISTED = 20


def export(dialogue: Dialogue, name: str) -> str:
    """Write the transcript to a new file."""
    path = Path(name).expanduser()
    write_transcript(path, dialogue.chat.conversation, dialogue.model)
    return f"exported to {path}"


_FIGURES: dict[str, Figures] = {"on": "short", "off": "off", "full": "full"}


def stats(dialogue: Dialogue, switch: str) -> str:
    """Totals of all answers, or set which figures are shown after each."""
    if switch:
        if switch not in _FIGURES:
            raise CommandError("use /stats, or /stats on, /stats off or /stats full")
        dialogue.figures = _FIGURES[switch]
        return f"figures after each answer: {switch}"
    totals = dialogue.totals
    rate = (totals.tokens - totals.answers) / totals.seconds if totals.seconds else 0.0
    return table(
        {
            "answers": totals.answers,
            "tokens": f"{totals.tokens}, {rate:.1f} tokens/s",
            "prompts": f"{totals.prompt_evaluated} tokens evaluated, {totals.prompt_reused} reused",
            "context": _context(dialogue),
        }
    )


def tokens(dialogue: Dialogue, text: str) -> str:
    """The number of tokens of the conversation, or the tokens of a text."""
    if not text:
        return f"the conversation takes {_context(dialogue)} tokens"
    vocabulary = dialogue.chat.engine.vocabulary
    tokens = vocabulary.tokenize(text)
    pieces = (printable(spelled(vocabulary.spelling(token))) for token in tokens[:200])
    return f"{len(tokens)} tokens: {'|'.join(pieces)}{'|...' if len(tokens) > 200 else ''}"


def copy(dialogue: Dialogue, _: str) -> Copy:
    """The last answer, for the clipboard."""
    # It may be pasted into a terminal.
    return Copy(EscapeFilter().feed(_last_answer(dialogue)))


def thoughts(dialogue: Dialogue, _: str) -> str:
    """What the model thought before its last answer."""
    return thoughts_of(_last_answer(dialogue)) or "the last answer has no thoughts"


def _last_answer(dialogue: Dialogue) -> str:
    conversation = dialogue.chat.conversation
    return conversation.messages[conversation.last_answer()].content


def _context(dialogue: Dialogue) -> str:
    used, n_ctx = dialogue.chat.context_used(), dialogue.chat.engine.n_ctx
    return f"{used} of {n_ctx}"
