"""What the commands for swipes, edits, branches and imports do; they return what a screen shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from franken_gguf.runner.chat.answer import Answer
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.impersonation import Draft
from franken_gguf.runner.chat.replay import Replay
from franken_gguf.runner.conversation import branches
from franken_gguf.runner.conversation.swipes import swipes, with_shown

from .general_commands import CommandError, Edit, Outcome, as_line, load, resumed
from .listing import shortened


def regen(dialogue: Dialogue, _: str) -> Answer:
    """Another answer in place of the last, which stays as a swipe."""
    if dialogue.chat.sampling.temperature == 0:
        raise CommandError("at temperature 0 the answer would be the same; /set temp 0.8 first")
    return dialogue.chat.regenerate()


def swipe(dialogue: Dialogue, number: str) -> Outcome:
    """Show the next answer, or answer `number`; after the last, generate one, as in SillyTavern."""
    conversation = dialogue.chat.conversation
    last = conversation.last_answer()
    texts, place = swipes(conversation.messages[last])
    if not number and place == len(texts) - 1:
        return regen(dialogue, "")
    place = _number(number, len(texts), "answer") if number else place + 1
    conversation.messages[last] = with_shown(conversation.messages[last], place)
    shown = as_line(dialogue, conversation.messages[last])
    return Replay(f"answer {place + 1} of {len(texts)}", (shown,))


def list_swipes(dialogue: Dialogue, _: str) -> str:
    """All answers to the last question; the one that is shown is marked."""
    conversation = dialogue.chat.conversation
    texts, place = swipes(conversation.messages[conversation.last_answer()])
    return "\n".join(
        f"{'*' if n == place else ' '} {n + 1:>{len(str(len(texts)))}}  {shortened(text)}"
        for n, text in enumerate(texts)
    )


def edit(dialogue: Dialogue, what: str) -> Outcome:
    """The message to edit, by default the last question; or the answer to a new question."""
    conversation = dialogue.chat.conversation
    if what == "answer":
        place = conversation.last_answer()
    elif what.isdecimal():
        place = _number(what, len(conversation.messages), "message")
    elif what:
        return dialogue.chat.ask_instead(what)
    else:
        place = conversation.last_question()
    return Edit(conversation.messages[place].content, place)


def change(dialogue: Dialogue, edit: Edit, text: str) -> Outcome:
    """Replace the edited message by `text`.

    If it is the last question, it is asked again; any other message is changed in place.
    """
    if not text.strip():
        raise CommandError("the text is empty: nothing changed; /undo removes the last turn")
    if text == edit.text:
        return "nothing changed"
    conversation = dialogue.chat.conversation
    message = conversation.messages[edit.place]
    if message.role == "user" and edit.place == conversation.last_question():
        return dialogue.chat.ask_instead(text)
    conversation.messages[edit.place] = replace(message, content=text)
    return f"message {edit.place + 1} changed"


def impersonate(dialogue: Dialogue, _: str) -> Draft:
    """The user's next line, as the model would write it."""
    return Draft(dialogue.chat)


def branch(dialogue: Dialogue, name: str) -> str:
    """Continue in a copy of the chat; the original stays as it is."""
    conversation = dialogue.chat.conversation
    if not conversation.messages:
        raise CommandError("there are no messages yet")
    dialogue.save()
    here = dialogue.session
    if here is None:
        raise CommandError("this chat is not saved; give it a name first: /save NAME")
    new = branches.fork(dialogue.sessions, here, conversation, name, dialogue.model)
    dialogue.switch_to(new, new.read())
    return f"now on branch {new.name!r} of {here.name!r}, from message {len(conversation.messages)}"


def list_branches(dialogue: Dialogue, _: str) -> str:
    """The tree of saved chats that contains this one."""
    here = _saved_name(dialogue)
    return "\n".join(
        f"{'*' if name == here else ' '} {'  ' * depth}{name}"
        for depth, name in branches.tree(dialogue.sessions, here)
    )


def checkout(dialogue: Dialogue, name: str) -> Outcome:
    """Switch to another branch of this tree."""
    here = _saved_name(dialogue)
    if name == here:
        return f"already on {name!r}"
    if name not in (known for _, known in branches.tree(dialogue.sessions, here)):
        raise CommandError(
            f"{name!r} is not a branch of this chat; /branches lists its branches, /load opens any"
        )
    return load(dialogue, name)


def branch_names(dialogue: Dialogue) -> list[str]:
    """The names of all branches in this chat's tree."""
    if dialogue.session is None:
        return []
    return [name for _, name in branches.tree(dialogue.sessions, dialogue.session.name)]


def import_chat(dialogue: Dialogue, name: str) -> Replay:
    """Start a saved chat from a file, SillyTavern's or ours."""
    session = dialogue.sessions.import_file(Path(name).expanduser())
    dialogue.switch_to(session, session.read())
    return resumed(dialogue)


def _saved_name(dialogue: Dialogue) -> str:
    if dialogue.session is None:
        raise CommandError("this chat is not saved; give it a name first: /save NAME")
    return dialogue.session.name


def _number(text: str, count: int, what: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= number <= count:
        choice = f"choose 1 to {count}" if count else "there are none yet"
        raise CommandError(f"there is no {what} {text!r}; {choice}")
    return number - 1
