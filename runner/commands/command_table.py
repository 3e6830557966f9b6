"""The commands of a conversation: one table that help, completion and dispatch read."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap

from franken_gguf.quantize.common.errors import did_you_mean
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.sampling.sampling_presets import presets
from franken_gguf.runner.story.persona import persona_names

from . import general_commands, history_commands, sampling_commands
from . import story_commands as story
from .general_commands import CommandError, Edit, Help, Leave, Outcome

QUOTES = '"""'  # around a text of several lines


@dataclass(frozen=True)
class Command:
    """One command. `argument` is "" for none, "NAME" if required, "[NAME]" if optional."""

    name: str
    argument: str
    what: str
    run: Callable[[Dialogue, str], Outcome]
    other_names: tuple[str, ...] = ()
    choices: Callable[[Dialogue], list[str]] = lambda _: []

    @property
    def usage(self) -> str:
        """The name and its argument."""
        return f"{self.name} {self.argument}".rstrip()


def respond(dialogue: Dialogue, line: str, edit: Edit | None = None) -> Outcome | None:
    '''Run a line that the user typed as a command or a question; None for an empty line.

    A line with one slash in front is a command; two slashes or """ begin a question. With `edit`
    the line replaces that message. Raises FrankenError.
    '''
    stripped = line.lstrip()
    if is_command(line):
        return run(dialogue, stripped)
    text = unquoted(stripped.removeprefix("/") if stripped.startswith("//") else line)
    if not text.strip():
        return None
    return history_commands.change(dialogue, edit, text) if edit else dialogue.chat.ask(text)


def is_command(line: str) -> bool:
    """Whether `line` is a command, not a text."""
    stripped = line.lstrip()
    return stripped.startswith("/") and not stripped.startswith("//")


def run(dialogue: Dialogue, line: str) -> Outcome:
    """Run a command. Raises CommandError if there is none of that name."""
    name, *rest = line.split(maxsplit=1)
    argument = unquoted(unquoted(rest[0].strip()), '"') if rest else ""
    command = find(name)
    if argument and not command.argument:
        raise CommandError(f"{name} takes no argument")
    if not rest and command.argument and not command.argument.startswith("["):
        raise CommandError(f"{name} needs {command.argument}: {command.what}")
    return command.run(dialogue, argument)


def find(name: str) -> Command:
    """The command of that name. Raises CommandError, which suggests a similar name."""
    names = {n: command for command in COMMANDS for n in (command.name, *command.other_names)}
    if name in names:
        return names[name]
    hint = f"{did_you_mean(name, names)} /help lists them, /{name} sends it as text".lstrip()
    raise CommandError(f"there is no command {name}; {hint}")


def completions(dialogue: Dialogue, text: str) -> list[str]:
    """Completions of `text`: command names, then the choices for their arguments."""
    name, space, argument = text.partition(" ")
    if not space:
        names = [c.name + " " * bool(c.argument) for c in COMMANDS]
        names += [other for c in COMMANDS for other in c.other_names]
        return [name for name in names if text.startswith("/") and name.startswith(text)]
    return [
        f"{name} {choice}"
        for command in COMMANDS
        if command.name == name
        for choice in command.choices(dialogue)
        if choice.startswith(argument)
    ]


def is_whole(text: str) -> bool:
    '''Whether Enter sends `text`: one that begins with """ continues until the closing one.'''
    text = text.strip()
    return not text.startswith(QUOTES) or text.endswith(QUOTES, len(QUOTES))


def unquoted(text: str, quotes: str = QUOTES) -> str:
    """`text` without the quotes around it, if it has any."""
    inner = text.strip()
    if len(inner) >= 2 * len(quotes) and inner.startswith(quotes) and inner.endswith(quotes):
        return inner[len(quotes) : -len(quotes)].strip("\n")
    return text


def help_text(width: int) -> str:
    """All commands in two columns; if `width` is too small, each above its explanation."""
    groups = {name: [(c.usage, c.what) for c in commands] for name, commands in _GROUPS.items()}
    groups["Keys"] = [
        ("//...", "send a line that starts with /"),
        ('"""', "begin and end a multi-line text"),
        ("Alt-Enter", "start a new line"),
        ("Ctrl-C", "stop the answer; its text stays"),
    ]
    rows = [row for group in groups.values() for row in group]
    left = max(len(usage) for usage, _ in rows)
    is_wide = width > left + max(len(what) for _, what in rows) + 4

    def shown(usage: str, what: str) -> str:
        if is_wide:
            return f"  {usage:{left}}  {what}"
        return f"  {usage}\n{textwrap.fill(what, width, initial_indent=_IN, subsequent_indent=_IN)}"

    return "\n\n".join("\n".join([name, *starmap(shown, groups[name])]) for name in groups)


_IN = " " * 6

_GROUPS: dict[str, tuple[Command, ...]] = {
    "Answers": (
        Command("/regen", "", "answer again, keep this as a swipe", history_commands.regen),
        Command("/swipe", "[N]", "show the next answer, or answer N", history_commands.swipe),
        Command("/swipes", "", "list the answers so far", history_commands.list_swipes),
        Command("/continue", "", "continue the last answer", lambda d, _: d.chat.resume()),
        Command(
            "/edit",
            "[WHAT]",
            "edit question, answer or message N",
            history_commands.edit,
            choices=lambda _: ["answer"],
        ),
        Command("/undo", "", "remove the last question and reply", general_commands.undo),
        Command("/impersonate", "", "let the model draft your line", history_commands.impersonate),
        Command("/copy", "", "copy the last answer", general_commands.copy),
        Command("/thoughts", "", "show the last answer's thoughts", general_commands.thoughts),
    ),
    "Story": (
        Command(
            "/character",
            "[NAME]",
            "show a card; add FILE; remove NAME",
            story.character,
            choices=story.character_choices,
        ),
        Command("/as", "NAME", "let a character speak now", story.speak_as, choices=story.names),
        Command("/next", "", "let the next character speak", story.speak_next),
        Command(
            "/persona",
            "[NAME|off]",
            "show or change who you are",
            story.persona,
            choices=lambda _: [*persona_names(), story.OFF],
        ),
        Command("/lore", "", "show active lore, and why", story.lore),
        Command(
            "/lorebook",
            "[add FILE]",
            "list, add or remove lorebooks",
            story.lorebook,
            choices=story.lorebook_choices,
        ),
        Command("/note", "[TEXT [N]]", "set an author's note; off: none", story.note),
        Command("/memory", "[TEXT]", "set what the model keeps in mind", story.memory),
        Command("/system", "TEXT", 'set the system text; "" removes it', general_commands.system),
        Command("/clear", "", "clear all but the system text", general_commands.clear),
    ),
    "Sampling": (
        Command(
            "/set",
            "[NAME VALUE]",
            "show the settings, or change one",
            lambda d, text: sampling_commands.change_setting(d.chat, text),
            choices=lambda d: list(sampling_commands.settings(d.chat)),
        ),
        Command(
            "/preset",
            "[NAME]",
            "load named settings, or list them",
            lambda d, name: sampling_commands.use_preset(d.chat, name),
            choices=lambda _: list(presets()),
        ),
        Command(
            "/ban",
            "[PHRASE]",
            "ban a phrase, or list the banned",
            lambda d, phrase: sampling_commands.ban(d.chat, phrase),
        ),
        Command(
            "/unban",
            "PHRASE",
            "allow a phrase again, or all",
            lambda d, phrase: sampling_commands.unban(d.chat, phrase),
            choices=lambda d: [*d.chat.banned.phrases, "all"],
        ),
    ),
    "Insight": (
        Command(
            "/probs",
            "",
            "how likely each word was",
            lambda d, _: sampling_commands.probabilities(d.chat),
        ),
        Command(
            "/experts",
            f"[{sampling_commands.MAP}]",
            "which experts wrote the answer",
            lambda d, what: sampling_commands.experts(d.chat, what),
            choices=lambda _: [sampling_commands.MAP],
        ),
        Command(
            "/stats",
            "[on|off|full]",
            "totals; figures after each answer",
            general_commands.stats,
            choices=lambda _: ["on", "off", "full"],
        ),
        Command("/tokens", "[TEXT]", "count tokens of the chat, or TEXT", general_commands.tokens),
        Command(
            "/show",
            "[WHAT]",
            "show the chat, or one part of it",
            general_commands.show,
            choices=lambda _: list(general_commands.SHOWN),
        ),
    ),
    "Saved chats": (
        Command("/sessions", "", "list the saved chats", general_commands.sessions),
        Command("/save", "[NAME]", "save; NAME continues as a new chat", general_commands.save),
        Command(
            "/load",
            "NAME",
            "resume a saved chat",
            general_commands.load,
            choices=lambda d: [one.name for one in d.sessions.all()],
        ),
        Command("/branch", "NAME", "continue in a copy of this chat", history_commands.branch),
        Command("/branches", "", "list this chat's branches", history_commands.list_branches),
        Command(
            "/checkout",
            "NAME",
            "switch to another branch",
            history_commands.checkout,
            choices=history_commands.branch_names,
        ),
        Command("/export", "FILE", "write .md, .txt, .html or .jsonl", general_commands.export),
        Command("/import", "FILE", "start from a SillyTavern chat", history_commands.import_chat),
    ),
    "Help": (
        Command("/help", "", "show this list", lambda *_: Help()),
        Command("/bye", "", "leave, as Ctrl-D does", lambda *_: Leave(), ("/exit", "/quit")),
    ),
}

COMMANDS = tuple(command for commands in _GROUPS.values() for command in commands)
