"""The commands of a conversation, in one table that help, completion and dispatch read.

Knows no screen: a command gives back what is to be shown or done.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from franken_gguf.quantize.errors import FrankenError

from .chat import Answer
from .dialogue import Dialogue
from .export import write_transcript
from .sampling import RANDOM_SEED, with_setting
from .session_format import SessionError
from .terminal import printable, size

QUOTES = '"""'  # around a text of several lines


class CommandError(FrankenError):
    """A line that begins with a slash and is no command, or one that cannot do what it says."""


@dataclass(frozen=True)
class Edit:
    """The user's next line begins as this text, and stands in place of their last question."""

    text: str


@dataclass(frozen=True)
class Copy:
    """This text goes to the clipboard."""

    text: str


class Leave:
    """The conversation ends."""


Outcome = str | Answer | Edit | Copy | Leave
"""A string is a notice."""


@dataclass(frozen=True)
class Command:
    """One command. `argument` is "" for none, "NAME" for one that must be, "[NAME]" for may be."""

    name: str
    argument: str
    what: str
    run: Callable[[Dialogue, str], Outcome]
    other_names: tuple[str, ...] = ()
    choices: Callable[[Dialogue], list[str]] = lambda _: []


def respond(dialogue: Dialogue, line: str, *, is_edit: bool = False) -> Outcome | None:
    '''What a line that the user typed brings: None for an empty one.

    A command where it begins with one slash; else a question, which two slashes or """ may begin.
    With `is_edit` it stands in place of the last question. Raises FrankenError.
    '''
    if line.startswith("/") and not line.startswith("//"):
        return run(dialogue, line)
    text = unquoted(line.removeprefix("/") if line.startswith("//") else line)
    if not text.strip():
        return None
    return dialogue.chat.ask_instead(text) if is_edit else dialogue.chat.ask(text)


def run(dialogue: Dialogue, line: str) -> Outcome:
    """What a command does. Raises CommandError where there is none of that name."""
    name, *rest = line.split(maxsplit=1)
    argument = unquoted(unquoted(rest[0].strip()), '"') if rest else ""
    command = find(name)
    if argument and not command.argument:
        raise CommandError(f"{name} takes nothing after it")
    if not rest and command.argument and not command.argument.startswith("["):
        raise CommandError(f"{name} needs a {command.argument}: {command.what}")
    return command.run(dialogue, argument)


def find(name: str) -> Command:
    """The command of that name. Raises CommandError, which names the nearest."""
    names = {n: command for command in COMMANDS for n in (command.name, *command.other_names)}
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise CommandError(f"no command {name}; {hint}/help lists them, /{name} sends it as text")


def completions(dialogue: Dialogue, text: str) -> list[str]:
    """What a line that begins as `text` may become: commands, then what they take."""
    name, space, begun = text.partition(" ")
    if not space:
        found = [c.name + " " * bool(c.argument) for c in COMMANDS]
        found += [other for c in COMMANDS for other in c.other_names]
        return [one for one in found if text.startswith("/") and one.startswith(text)]
    return [
        f"{name} {choice}"
        for command in COMMANDS
        if command.name == name
        for choice in command.choices(dialogue)
        if choice.startswith(begun)
    ]


def is_whole(text: str) -> bool:
    '''Whether Enter ends `text`: one that begins with """ goes on until the next.'''
    begun = text.lstrip()
    return not begun.startswith(QUOTES) or begun.rstrip().endswith(QUOTES, len(QUOTES))


def unquoted(text: str, quotes: str = QUOTES) -> str:
    """`text` without the quotes around it, where it has them."""
    inner = text.strip()
    if len(inner) >= 2 * len(quotes) and inner.startswith(quotes) and inner.endswith(quotes):
        return inner[len(quotes) : -len(quotes)].strip("\n")
    return text


def _help(_: Dialogue, __: str) -> str:
    rows = [(" ".join(filter(None, (c.name, c.argument))), c.what) for c in COMMANDS]
    rows += [
        ("//...", "send a text that begins with a slash"),
        ('"""', "begin or end a text of several lines"),
        ("Alt-Enter", "a new line"),
        ("Ctrl-C", "stop the answer, keep what came"),
    ]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"{left:{width}}  {right}" for left, right in rows)


def _clear(dialogue: Dialogue, _: str) -> str:
    dialogue.chat.conversation.clear()
    return "the conversation is forgotten; its transcript and the system text stay"


def _regen(dialogue: Dialogue, _: str) -> Answer:
    if dialogue.chat.sampling.temperature == 0:
        raise CommandError("at temperature 0 the answer would be the same; /set temp 0.8 first")
    return dialogue.chat.regenerate()


def _undo(dialogue: Dialogue, _: str) -> str:
    question = " ".join(dialogue.chat.conversation.undo().split())
    return f"taken back: {question[:60]}{'...' if len(question) > 60 else ''}"


def _edit(dialogue: Dialogue, text: str) -> Edit | Answer:
    if text:
        return dialogue.chat.ask_instead(text)
    conversation = dialogue.chat.conversation
    return Edit(conversation.messages[conversation.last_question()].content)


def _system(dialogue: Dialogue, text: str) -> str:
    conversation = dialogue.chat.conversation
    conversation.system = text
    return "the system text is changed" if text else "there is no system text now"


def _settings(dialogue: Dialogue) -> dict[str, float | str]:
    chat = dialogue.chat
    found: dict[str, float | str] = asdict(chat.sampling)
    if found["seed"] == RANDOM_SEED:
        found["seed"] = "-1 (another one every time)"
    found["max_tokens"] = "-1 (no limit)" if chat.max_tokens is None else chat.max_tokens
    return found


def _set(dialogue: Dialogue, text: str) -> str:
    chat, words = dialogue.chat, text.split()
    if words[:1] == ["parameter"]:  # as ollama has it
        del words[0]
    if not words:
        return _table(_settings(dialogue))
    if len(words) != 2:
        raise CommandError("write it as /set NAME VALUE, for example /set temp 0.7")
    name, value = words
    if name.replace("-", "_") == "max_tokens":
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number == 0:
            raise CommandError(f"max_tokens is a whole number, -1 for no limit, not {value!r}")
        chat.max_tokens = None if number < 0 else number
    else:
        chat.sampling = with_setting(chat.sampling, name, value)
    return f"{name} is {value} now"


def _show(dialogue: Dialogue, what: str) -> str:
    conversation = dialogue.chat.conversation
    if what == "system":
        return conversation.system or "there is no system text"
    if what == "memory":
        return conversation.memory or "nothing has been summarized"
    if what == "template":
        return dialogue.chat.template.source
    if what == "parameters":
        return _table(_settings(dialogue))
    if what not in ("", "info"):
        raise CommandError(f"there is nothing to show as {what!r}: {', '.join(_SHOWN)}")
    return _table(
        {
            "model": dialogue.model,
            "session": dialogue.session.name if dialogue.session else "not saved",
            "messages": f"{len(conversation.messages)}, of which {conversation.forgotten} left "
            "the context",
            "context": _context(dialogue),
            "system": " ".join(conversation.system.split())[:60] or "none",
        }
    )


_SHOWN = ["info", "system", "memory", "template", "parameters"]


def _save(dialogue: Dialogue, name: str) -> str:
    if not dialogue.chat.conversation.messages:
        raise CommandError("nothing has been said yet")
    if name and not (dialogue.session and name == dialogue.session.name):
        session = dialogue.sessions.open(name)
        if session.exists():
            session.close()
            raise CommandError(f"there is a session {session.name!r} already; take another name")
        dialogue.move_to(session)
    dialogue.save()
    if dialogue.session is None:
        raise CommandError("this chat is not saved; give it a name: /save NAME")
    return f"saved as {dialogue.session.name!r}: {dialogue.session.path}"


def _load(dialogue: Dialogue, name: str) -> str:
    session = dialogue.sessions.open_saved(name)
    try:
        conversation = session.read()
    except SessionError:
        session.close()
        raise
    dialogue.go_on(session, conversation)
    return resumed(dialogue)


def resumed(dialogue: Dialogue) -> str:
    """Where a session that goes on stands: its name, its length, its last words."""
    conversation, session = dialogue.chat.conversation, dialogue.session
    assert session is not None
    count = len(conversation.messages)
    last = conversation.messages[-1].content.strip() if count else ""
    lines = [f"session {session.name!r} goes on after {count} messages", last[-400:]]
    return "\n".join(filter(None, lines))


def _sessions(dialogue: Dialogue, _: str) -> str:
    listed = dialogue.sessions.all()
    if not listed:
        return "there are no sessions yet"
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


def _export(dialogue: Dialogue, name: str) -> str:
    path = Path(name).expanduser()
    write_transcript(path, dialogue.chat.conversation, dialogue.model)
    return f"written: {path}"


def _stats(dialogue: Dialogue, switch: str) -> str:
    if switch in ("on", "off"):
        dialogue.show_figures = switch == "on"
        return f"the figures after each answer are {switch}"
    if switch:
        raise CommandError("write /stats, /stats on or /stats off")
    totals = dialogue.totals
    rate = (totals.tokens - totals.answers) / totals.seconds if totals.seconds else 0.0
    return _table(
        {
            "answers": totals.answers,
            "tokens": f"{totals.tokens}, {rate:.1f} tokens/s",
            "prompts": f"{totals.prompt_evaluated} tokens evaluated, {totals.prompt_reused} reused",
            "context": _context(dialogue),
        }
    )


def _tokens(dialogue: Dialogue, text: str) -> str:
    if not text:
        return f"the conversation has {_context(dialogue)} tokens"
    vocabulary = dialogue.chat.engine.vocabulary
    tokens = vocabulary.tokenize(text)
    pieces = (printable(vocabulary.spelling(t).decode(errors="replace")) for t in tokens[:200])
    return f"{len(tokens)} tokens: {'|'.join(pieces)}{'|...' if len(tokens) > 200 else ''}"


def _copy(dialogue: Dialogue, _: str) -> Copy:
    conversation = dialogue.chat.conversation
    return Copy(conversation.messages[conversation.last_answer()].content)


def _context(dialogue: Dialogue) -> str:
    used, n_ctx = dialogue.chat.context_used(), dialogue.chat.engine.n_ctx
    return f"{used} of {n_ctx}"


def _table(rows: Mapping[str, object]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


COMMANDS = (
    Command("/help", "", "this list", _help),
    Command("/regen", "", "another answer in place of the last", _regen),
    Command("/continue", "", "let the last answer go on", lambda d, _: d.chat.resume()),
    Command("/edit", "[TEXT]", "change the last question, ask again", _edit),
    Command("/undo", "", "take back the last question and answer", _undo),
    Command("/clear", "", "forget all but the system text", _clear),
    Command("/system", "TEXT", 'change the system text; "" is none', _system),
    Command(
        "/set",
        "[NAME VALUE]",
        "show the settings, or change one",
        _set,
        choices=lambda d: list(_settings(d)),
    ),
    Command(
        "/show",
        "[WHAT]",
        "show the chat, or one of its parts",
        _show,
        choices=lambda _: list(_SHOWN),
    ),
    Command(
        "/stats",
        "[on|off]",
        "totals; or figures after each answer",
        _stats,
        choices=lambda _: ["on", "off"],
    ),
    Command("/tokens", "[TEXT]", "count the chat's tokens, or a text's", _tokens),
    Command("/copy", "", "the last answer to the clipboard", _copy),
    Command("/sessions", "", "list the saved chats", _sessions),
    Command("/save", "[NAME]", "go on under another name", _save),
    Command(
        "/load",
        "NAME",
        "go on with a saved chat",
        _load,
        choices=lambda d: [one.name for one in d.sessions.all()],
    ),
    Command("/export", "FILE", "write it all as .md, .txt or .jsonl", _export),
    Command(
        "/bye", "", "leave; so do /exit, /quit, Ctrl-D", lambda *_: Leave(), ("/exit", "/quit")
    ),
)
