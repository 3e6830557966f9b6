"""`franken-gguf chat`."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.quantize.merge.recipe_file import expert_names as recipe_names
from franken_gguf.runner.api import load
from franken_gguf.runner.chat import presets, ui_chat
from franken_gguf.runner.chat.actions import resumed
from franken_gguf.runner.chat.answer import now
from franken_gguf.runner.chat.commands import completions, is_whole
from franken_gguf.runner.chat.conversation import Conversation
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.kv_file import load_context, save_context
from franken_gguf.runner.chat.session import Session, Sessions, data_folder, make_private
from franken_gguf.runner.chat.standard_input import clean, has_keyboard, piped_text
from franken_gguf.runner.engine.engine import LoadOptions
from franken_gguf.runner.engine.interrupt import hearing_ctrl_c
from franken_gguf.runner.engine.machine import this_machine, with_vram
from franken_gguf.runner.story.saved import begin
from franken_gguf.runner.terminal import size

from .parameters import FILE
from .placement import placement_options
from .sampling import sampling_options


def _limit(ctx: click.Context, parameter: click.Parameter, value: int) -> int | None:
    if value == 0:
        raise click.BadParameter("an answer has at least one token; -1 is no limit")
    return None if value < 0 else value


def _expert_names(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    if value.endswith((".yml", ".yaml")):
        return recipe_names(Path(value))
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "-p", "--prompt", metavar="TEXT", help="Answer this and leave; piped text goes first."
)
@click.option("-sys", "--system-prompt", "system", metavar="TEXT", default="", help="System text.")
@placement_options
@click.option(
    "-t",
    "--threads",
    "n_threads",
    type=click.IntRange(1, 512),
    metavar="N",
    help="[default: one for each core]",
)
@click.option(
    "-n",
    "--predict",
    "max_tokens",
    type=click.IntRange(min=-1),
    metavar="N",
    default=-1,
    callback=_limit,
    help="Tokens of an answer at most; -1 is no limit.",
)
@sampling_options
@click.option(
    "--character",
    "characters",
    type=FILE,
    multiple=True,
    metavar="CARD",
    help="A character card, PNG or JSON; several play together.",
)
@click.option(
    "--lorebook",
    "lorebooks",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="SillyTavern's world info, or a card's book, in JSON.",
)
@click.option("--user", metavar="NAME", default="", help="Your name in the story.  [default: User]")
@click.option(
    "--session", "session", metavar="NAME", help="Begin this saved chat, or go on with it."
)
@click.option(
    "--continue", "goes_on", is_flag=True, help="Go on with the last saved chat, or --session's."
)
@click.option(
    "--import", "imported", type=FILE, help="Begin with a chat of SillyTavern's, a .jsonl."
)
@click.option("--experts", is_flag=True, help="Listen to the routers: /experts shows who spoke.")
@click.option(
    "--expert-names",
    metavar="A,B|RECIPE",
    default="",
    callback=_expert_names,
    help="What the experts are called, or the merge recipe that says it.",
)
@click.option("--no-save", is_flag=True, help="Keep nothing of this chat on the disk.")
@click.option(
    "--keep-context",
    is_flag=True,
    help="Keep what was evaluated beside the session: a long one resumes at once.",
)
@click.option(
    "--summarize",
    is_flag=True,
    help="Let the model sum up what leaves the context, and remember that.",
)
def chat(
    model: Path,
    prompt: str | None,
    system: str,
    wishes: dict[str, Any],
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    n_threads: int | None,
    max_tokens: int | None,
    characters: tuple[Path, ...],
    lorebooks: tuple[Path, ...],
    user: str,
    session: str | None,
    goes_on: bool,
    imported: Path | None,
    no_save: bool,
    keep_context: bool,
    summarize: bool,
    experts: bool,
    expert_names: tuple[str, ...],
    sampling: dict[str, Any],
    preset: str | None,
    bans: tuple[str, ...],
) -> None:
    """Talk with MODEL, a GGUF file: at a terminal, or one answer with -p or from a pipe.

    Answers go to standard output, all else to standard error. The sampling defaults are the
    model file's own where it holds any. Ctrl-C stops the answer. A chat at a terminal is saved
    after every turn; one answer is where --session or --continue names a chat.
    """
    if no_save and (session or goes_on or imported or keep_context):
        raise click.UsageError(
            "--no-save keeps nothing: leave --session, --continue, --import and --keep-context away"
        )
    if imported and goes_on:
        raise click.UsageError("--import begins a chat, --continue goes on with one: give one")
    screen = ui_chat.Screen()
    header = read_header(model)
    piped = piped_text(screen.notice, has_prompt=prompt is not None)
    question = "\n\n".join(filter(None, (piped, clean(prompt or ""))))
    is_dialogue = prompt is None and has_keyboard()
    if not is_dialogue and not question.strip():
        raise click.UsageError("there is nothing to answer: give -p TEXT, or text on a pipe")

    options = LoadOptions(**wishes, n_threads=n_threads)
    machine = this_machine(rpc)
    if vram is not None:
        machine = with_vram(machine, vram)
    sessions = Sessions()
    stop = threading.Event()
    with ExitStack() as resources:
        # Before the model is loaded: a session that cannot be had is said at once.
        saved = _session(sessions, session, goes_on, imported)
        resources.callback(saved.close if saved else lambda: None)
        conversation = saved.read() if saved else Conversation()
        conversation.system = clean(system) or conversation.system
        begin(conversation, characters, lorebooks, clean(user), now())
        with hearing_ctrl_c(stop), screen.loading(model.name) as show_progress:
            talk = load(
                header,
                options,
                machine=machine,
                sampling=sampling,
                preset=presets.preset(preset) if preset else None,
                bans=bans,
                max_tokens=max_tokens,
                summarize=summarize,
                experts=experts,
                stop=stop,
                on_progress=show_progress,
                on_notice=screen.notice,
            )
        resources.enter_context(talk)
        talk.records, talk.expert_names = is_dialogue, expert_names
        dialogue = Dialogue(talk, model.name, sessions, is_dialogue and not no_save)
        resources.callback(dialogue.close)
        dialogue.go_on(saved, conversation)
        if talk.template.is_fallback:
            screen.notice("the file holds no chat template: talking ChatML")
        if saved:
            load_context(talk.engine, saved.context_path)
        for remark in talk.story.remarks:
            screen.notice(remark)
        used, n_ctx = talk.context_used() if talk.story.cards else 0, talk.engine.n_ctx
        if used > n_ctx // 2:
            screen.notice(f"the story takes {used} of {n_ctx} tokens; -c gives more context")
        if is_dialogue:
            _talk(dialogue, screen, stop)
        else:
            ui_chat.answer_once(dialogue, screen, stop, question)
        if keep_context and dialogue.session:
            nbytes = save_context(talk.engine, dialogue.session.context_path)
            screen.notice(f"the evaluated context is kept: {size(nbytes)}")


def _session(
    sessions: Sessions, name: str | None, goes_on: bool, imported: Path | None
) -> Session | None:
    if imported:
        return sessions.import_file(imported, name)
    if goes_on:
        return sessions.open_saved(name)
    return sessions.open(name) if name else None


def _talk(dialogue: Dialogue, screen: ui_chat.Screen, stop: threading.Event) -> None:
    from franken_gguf.runner.chat.keyboard import Keyboard, PlainInput  # noqa: PLC0415 - 0.1 s

    n_ctx = dialogue.chat.engine.n_ctx
    screen.notice(f"{dialogue.model}, context {n_ctx}; /help lists the commands")
    if dialogue.session and dialogue.session.exists():
        screen.notice(resumed(dialogue))
    else:
        _show_beginning(dialogue, screen)
    has_terminal = sys.stdout.isatty() or sys.stderr.isatty()
    if has_terminal and not screen.console.is_dumb_terminal:
        history = _history() if dialogue.autosave else None
        lines: ui_chat.Lines = Keyboard(history, partial(completions, dialogue), is_whole)
    else:
        lines = PlainInput(sys.stderr, is_whole)
    ui_chat.talk(dialogue, screen, lines, stop)
    if dialogue.session and dialogue.session.exists():
        screen.notice(f"saved as {dialogue.session.name!r}; --continue goes on with it")


def _show_beginning(dialogue: Dialogue, screen: ui_chat.Screen) -> None:
    for card in dialogue.chat.story.cards:
        if card.creator_notes:
            screen.notice(f"{card.name}, notes of the creator:\n{card.creator_notes.strip()}\n")
    for message in dialogue.chat.conversation.messages:
        screen.say(f"{dialogue.chat.story.opening} {message.content}".lstrip())


def _history() -> Path | None:
    """The file of earlier lines, for its owner alone; None where there can be none."""
    path = data_folder() / "history"
    try:
        make_private(path.parent)
        path.touch(0o600)
    except OSError:
        return None
    return path
