"""The commands of a conversation: one table that help, completion and dispatch read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from franken_gguf.quantize.errors import did_you_mean
from franken_gguf.runner.story import actions as story

from . import actions, drawing, second_tries
from .actions import CommandError, Edit, Leave, Outcome
from .dialogue import Dialogue
from .presets import presets

QUOTES = '"""'  # around a text of several lines


@dataclass(frozen=True)
class Command:
    """One command. `argument` is "" for none, "NAME" for one that must be, "[NAME]" for may be."""

    name: str
    argument: str
    what: str
    run: Callable[[Dialogue, str], Outcome]
    other_names: tuple[str, ...] = ()
    choices: Callable[[Dialogue], list[str]] = lambda _: []


def respond(dialogue: Dialogue, line: str, edit: Edit | None = None) -> Outcome | None:
    '''What a line that the user typed brings: None for an empty one.

    A command where it begins with one slash; else a question, which two slashes or """ may begin.
    With `edit` it stands in place of that message. Raises FrankenError.
    '''
    begun = line.lstrip()
    if begun.startswith("/") and not begun.startswith("//"):
        return run(dialogue, begun)
    text = unquoted(begun.removeprefix("/") if begun.startswith("//") else line)
    if not text.strip():
        return None
    return second_tries.change(dialogue, edit, text) if edit else dialogue.chat.ask(text)


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


COMMANDS = (
    Command("/help", "", "this list", _help),
    Command("/regen", "", "another answer; the last stays a swipe", second_tries.regen),
    Command("/swipe", "[N]", "the next answer given, or the Nth", second_tries.swipe),
    Command("/swipes", "", "list the answers given", second_tries.list_swipes),
    Command("/continue", "", "let the last answer go on", lambda d, _: d.chat.resume()),
    Command(
        "/edit",
        "[WHAT]",
        "the last question, answer, or message N",
        second_tries.edit,
        choices=lambda _: ["answer"],
    ),
    Command("/undo", "", "take back the last question and answer", actions.undo),
    Command("/impersonate", "", "let the model begin your line", second_tries.impersonate),
    Command("/branch", "NAME", "go on in a branch of this chat", second_tries.branch),
    Command("/branches", "", "list this chat's branches", second_tries.list_branches),
    Command(
        "/checkout",
        "NAME",
        "go on in another branch",
        second_tries.checkout,
        choices=second_tries.branch_names,
    ),
    Command("/character", "[NAME]", "show a card", story.character, choices=story.names),
    Command("/as", "NAME", "let this character speak now", story.speak_as, choices=story.names),
    Command("/lore", "", "which lore is active, and why", story.lore),
    Command("/note", "[TEXT [N]]", "a note N messages before the end; off", story.note),
    Command("/memory", "[TEXT]", "what the model remembers; off", story.memory),
    Command("/clear", "", "forget all but the system text", actions.clear),
    Command("/system", "TEXT", 'change the system text; "" is none', actions.system),
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
        "take named settings, or list them",
        lambda d, name: drawing.use_preset(d.chat, name),
        choices=lambda _: list(presets()),
    ),
    Command("/ban", "[PHRASE]", "never say this, or list it", lambda d, p: drawing.ban(d.chat, p)),
    Command(
        "/unban",
        "PHRASE",
        "allow it again; all is every one",
        lambda d, phrase: drawing.unban(d.chat, phrase),
        choices=lambda d: [*d.chat.banned.phrases, "all"],
    ),
    Command(
        "/probs",
        "",
        "how likely the last answer's words were",
        lambda d, _: drawing.probabilities(d.chat),
    ),
    Command(
        "/experts", "", "which experts the last answer had", lambda d, _: drawing.experts(d.chat)
    ),
    Command(
        "/show",
        "[WHAT]",
        "show the chat, or one of its parts",
        actions.show,
        choices=lambda _: list(actions.SHOWN),
    ),
    Command(
        "/stats",
        "[on|off]",
        "totals; or figures after each answer",
        actions.stats,
        choices=lambda _: ["on", "off"],
    ),
    Command("/tokens", "[TEXT]", "count the chat's tokens, or a text's", actions.tokens),
    Command("/copy", "", "the last answer to the clipboard", actions.copy),
    Command("/sessions", "", "list the saved chats", actions.sessions),
    Command("/save", "[NAME]", "go on under another name", actions.save),
    Command(
        "/load",
        "NAME",
        "go on with a saved chat",
        actions.load,
        choices=lambda d: [one.name for one in d.sessions.all()],
    ),
    Command("/export", "FILE", "as .md, .txt, .html or .jsonl", actions.export),
    Command("/import", "FILE", "a chat of SillyTavern's, to go on", second_tries.import_chat),
    Command(
        "/bye", "", "leave; so do /exit, /quit, Ctrl-D", lambda *_: Leave(), ("/exit", "/quit")
    ),
)
