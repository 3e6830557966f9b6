"""One run of `franken-gguf chat`, from the saved session to the last answer."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from franken_gguf.runner.chat.answer import now
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.kept_settings import KeptSettings
from franken_gguf.runner.chat.prompt_cache import load_context, save_context
from franken_gguf.runner.cli.options.chat_arguments import ChatArguments, SessionArguments
from franken_gguf.runner.commands.command_table import completions, is_whole
from franken_gguf.runner.commands.general_commands import resumed
from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.session import Session, Sessions, data_folder, make_private
from franken_gguf.runner.story.persona import persona_path
from franken_gguf.runner.story.saved_story import begin
from franken_gguf.runner.terminal.standard_input import clean
from franken_gguf.runner.terminal.text import size
from franken_gguf.runner.ui import chat_screen
from franken_gguf.runner.ui.chat_screen import Screen
from franken_gguf.runner.ui.model_text import has_colours

from .load_chat import load_chat, machine_for


def run(arguments: ChatArguments, screen: Screen) -> None:
    """Chat at the terminal, or answer `arguments.question`.

    Raises FrankenError, and KeyboardInterrupt if Ctrl-C stopped the answer to that question.
    """
    machine = machine_for(arguments, screen)
    model = arguments.header.path.name
    sessions = Sessions()
    stop = threading.Event()
    with ExitStack() as resources:
        # Before the model is loaded: a session that cannot be opened is reported at once.
        session = _open_session(sessions, arguments.session)
        if session:
            resources.callback(session.close)
        conversation = _conversation(session, arguments)
        chat = resources.enter_context(load_chat(arguments, machine, screen, stop))
        chat.records = arguments.question is None
        autosave = arguments.question is None and not arguments.session.no_save
        dialogue = Dialogue(
            chat, model, sessions, autosave, settings=KeptSettings(chat, arguments.given)
        )
        resources.callback(dialogue.close)
        dialogue.switch_to(session, conversation)
        if session:
            load_context(chat.engine, session.context_path)
        _show_remarks(dialogue, screen)
        if arguments.question is None:
            _talk(dialogue, screen, stop)
        else:
            chat_screen.answer_once(dialogue, screen, stop, arguments.question)
        if arguments.session.keep_context and dialogue.session:
            nbytes = save_context(chat.engine, dialogue.session.context_path)
            screen.notice(f"saved the evaluated context: {size(nbytes)}")


def _open_session(sessions: Sessions, arguments: SessionArguments) -> Session | None:
    if arguments.imported:
        return sessions.import_file(arguments.imported, arguments.name)
    if arguments.is_resumed:
        return sessions.open_saved(arguments.name)
    return sessions.open(arguments.name) if arguments.name else None


def _conversation(session: Session | None, arguments: ChatArguments) -> Conversation:
    conversation = session.read() if session else Conversation()
    conversation.system = clean(arguments.system) or conversation.system
    story = arguments.story
    persona = persona_path(story.persona) if story.persona else None
    begin(conversation, story.characters, story.lorebooks, clean(story.user), now(), persona)
    return conversation


def _show_remarks(dialogue: Dialogue, screen: Screen) -> None:
    chat = dialogue.chat
    if chat.template.is_fallback:
        screen.notice("the file has no chat template; using ChatML")
    for remark in (*chat.story.remarks, *dialogue.remarks):
        screen.notice(remark)
    used, n_ctx = chat.context_used() if chat.story.cards else 0, chat.engine.n_ctx
    if used > n_ctx // 2:
        screen.notice(f"the story takes {used} of the context's {n_ctx} tokens; give a larger -c")


def _talk(dialogue: Dialogue, screen: Screen, stop: threading.Event) -> None:
    from franken_gguf.runner.terminal.keyboard import Keyboard, PlainInput  # noqa: PLC0415 - 0.1 s

    n_ctx = dialogue.chat.engine.n_ctx
    screen.notice(f"{dialogue.model}, context {n_ctx}; /help lists the commands")
    if dialogue.session and dialogue.session.exists():
        screen.replay(resumed(dialogue))
    else:
        _show_beginning(dialogue, screen)
    has_terminal = sys.stdout.isatty() or sys.stderr.isatty()
    if has_terminal and not screen.console.is_dumb_terminal:
        history = _history() if dialogue.autosave else None
        lines: chat_screen.Lines = Keyboard(
            history,
            partial(completions, dialogue),
            is_whole,
            has_colours=has_colours(screen.console),
        )
    else:
        lines = PlainInput(sys.stderr, is_whole)
    chat_screen.talk(dialogue, screen, lines, stop)
    dialogue.save()  # if saving failed after a turn, try once more; now a failure is an error
    if dialogue.session and dialogue.session.exists():
        screen.notice(f"saved as {dialogue.session.name!r}; --continue resumes it")


def _show_beginning(dialogue: Dialogue, screen: Screen) -> None:
    for card in dialogue.chat.story.cards:
        if card.creator_notes:
            screen.notice(f"{card.name}, creator's notes:\n{card.creator_notes.strip()}\n")
    for message in dialogue.chat.conversation.messages:
        story = dialogue.chat.story
        screen.greeting(message.content, story.speaker_of(message), story.opening)


def _history() -> Path | None:
    """The input history, readable only by its owner; None if it cannot be created."""
    path = data_folder() / "history"
    try:
        make_private(path.parent)
        path.touch(0o600)
    except OSError:
        return None
    return path
