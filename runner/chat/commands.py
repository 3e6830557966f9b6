"""The commands of a conversation: one table that help, completion and dispatch read."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap

from franken_gguf.quantize.errors import did_you_mean
from franken_gguf.runner.story import actions as story

from . import actions, drawing, second_tries
from .actions import CommandError, Edit, Help, Leave, Outcome
from .dialogue import Dialogue
from .presets import presets

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
        """The name and what it takes."""
        return f"{self.name} {self.argument}".rstrip()


def respond(dialogue: Dialogue, line: str, edit: Edit | None = None) -> Outcome | None:
    '''Run a line that the user typed as a command or a question; None for an empty line.

    A line with one slash in front is a command; two slashes or """ begin a question. With `edit`
    the line replaces that message. Raises FrankenError.
    '''
    begun = line.lstrip()
    if begun.startswith("/") and not begun.startswith("//"):
        return run(dialogue, begun)
    text = unquoted(begun.removeprefix("/") if begun.startswith("//") else line)
    if not text.strip():
        return None
    return second_tries.change(dialogue, edit, text) if edit else dialogue.chat.ask(text)


def run(dialogue: Dialogue, line: str) -> Outcome:
    """Run a command. Raises CommandError where none has that name."""
    name, *rest = line.split(maxsplit=1)
    argument = unquoted(unquoted(rest[0].strip()), '"') if rest else ""
    command = find(name)
    if argument and not command.argument:
        raise CommandError(f"{name} takes no argument")
    if not rest and command.argument and not command.argument.startswith("["):
        raise CommandError(f"{name} needs {command.argument}: {command.what}")
    return command.run(dialogue, argument)


def find(name: str) -> Command:
    """The command of that name. Raises CommandError, which names the nearest."""
    names = {n: command for command in COMMANDS for n in (command.name, *command.other_names)}
    if name in names:
        return names[name]
    hint = f"{did_you_mean(name, names)} /help lists them, /{name} sends it as text".lstrip()
    raise CommandError(f"no command {name}; {hint}")


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


def help_text(width: int) -> str:
    """All commands in two columns, or on a terminal too narrow for that each above what it does."""
    groups = {name: [(c.usage, c.what) for c in commands] for name, commands in _GROUPS.items()}
    groups["Keys"] = [
        ("//...", "send a line that starts with /"),
        ('"""', "begin and end a multi-line text"),
        ("Alt-Enter", "start a new line"),
        ("Ctrl-C", "stop the answer; what came stays"),
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
        Command("/regen", "", "answer again, keep this as a swipe", second_tries.regen),
        Command("/swipe", "[N]", "show the next answer, or answer N", second_tries.swipe),
        Command("/swipes", "", "list the answers so far", second_tries.list_swipes),
        Command("/continue", "", "continue the last answer", lambda d, _: d.chat.resume()),
        Command(
            "/edit",
            "[WHAT]",
            "edit question, answer or message N",
            second_tries.edit,
            choices=lambda _: ["answer"],
        ),
        Command("/undo", "", "remove the last question and reply", actions.undo),
        Command("/impersonate", "", "let the model draft your line", second_tries.impersonate),
        Command("/copy", "", "copy the last answer", actions.copy),
    ),
    "Story": (
        Command("/character", "[NAME]", "show a card", story.character, choices=story.names),
        Command("/as", "NAME", "let a character speak now", story.speak_as, choices=story.names),
        Command("/lore", "", "show active lore, and why", story.lore),
        Command("/note", "[TEXT [N]]", "set an author's note; off: none", story.note),
        Command("/memory", "[TEXT]", "set what the model keeps in mind", story.memory),
        Command("/system", "TEXT", 'set the system text; "" removes it', actions.system),
        Command("/clear", "", "clear all but the system text", actions.clear),
    ),
    "Sampling": (
        Command(
            "/set",
            "[NAME VALUE]",
            "show the settings, or change one",
            actions.change_setting,
            choices=lambda d: list(actions.settings(d)),
        ),
        Command(
            "/preset",
            "[NAME]",
            "load named settings, or list them",
            lambda d, name: drawing.use_preset(d.chat, name),
            choices=lambda _: list(presets()),
        ),
        Command(
            "/ban",
            "[PHRASE]",
            "ban a phrase, or list the banned",
            lambda d, phrase: drawing.ban(d.chat, phrase),
        ),
        Command(
            "/unban",
            "PHRASE",
            "allow a phrase again, or all",
            lambda d, phrase: drawing.unban(d.chat, phrase),
            choices=lambda d: [*d.chat.banned.phrases, "all"],
        ),
    ),
    "Insight": (
        Command(
            "/probs",
            "",
            "how likely each word was",
            lambda d, _: drawing.probabilities(d.chat),
        ),
        Command(
            "/experts",
            f"[{drawing.MAP}]",
            "which experts wrote the answer",
            lambda d, what: drawing.experts(d.chat, what),
            choices=lambda _: [drawing.MAP],
        ),
        Command(
            "/stats",
            "[on|off|full]",
            "totals; figures after each answer",
            actions.stats,
            choices=lambda _: ["on", "off", "full"],
        ),
        Command("/tokens", "[TEXT]", "count tokens of the chat, or TEXT", actions.tokens),
        Command(
            "/show",
            "[WHAT]",
            "show the chat, or one part of it",
            actions.show,
            choices=lambda _: list(actions.SHOWN),
        ),
    ),
    "Saved chats": (
        Command("/sessions", "", "list the saved chats", actions.sessions),
        Command("/save", "[NAME]", "save; NAME continues as a new chat", actions.save),
        Command(
            "/load",
            "NAME",
            "resume a saved chat",
            actions.load,
            choices=lambda d: [one.name for one in d.sessions.all()],
        ),
        Command("/branch", "NAME", "continue in a copy of this chat", second_tries.branch),
        Command("/branches", "", "list this chat's branches", second_tries.list_branches),
        Command(
            "/checkout",
            "NAME",
            "switch to another branch",
            second_tries.checkout,
            choices=second_tries.branch_names,
        ),
        Command("/export", "FILE", "write .md, .txt, .html or .jsonl", actions.export),
        Command("/import", "FILE", "start from a SillyTavern chat", second_tries.import_chat),
    ),
    "Help": (
        Command("/help", "", "show this list", lambda *_: Help()),
        Command("/bye", "", "leave, as Ctrl-D does", lambda *_: Leave(), ("/exit", "/quit")),
    ),
}

COMMANDS = tuple(command for commands in _GROUPS.values() for command in commands)
