"""`franken-gguf chat`."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.runner import ui_chat
from franken_gguf.runner.chat import Chat
from franken_gguf.runner.engine import Engine, LoadOptions
from franken_gguf.runner.machine import this_machine, with_vram
from franken_gguf.runner.prompt import Template, special_tokens, stored_template
from franken_gguf.runner.sampling import RANDOM_SEED, sampling_for

from .parameters import FILE
from .placement import placement_options


def _limit(ctx: click.Context, parameter: click.Parameter, value: int) -> int | None:
    if value == 0:
        raise click.BadParameter("an answer has at least one token; -1 is no limit")
    return None if value < 0 else value


def _seed(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    return RANDOM_SEED if value < 0 else value


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "-p", "--prompt", metavar="TEXT", help="Answer this and leave; piped text goes first."
)
@click.option("-sys", "--system-prompt", "system", metavar="TEXT", default="", help="System text.")
@placement_options
@click.option("--mmap/--no-mmap", default=True, help="Map the file, or read it into memory.")
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
@click.option(
    "--temp", "temperature", type=float, help="0 takes the likeliest token.  [default: 0.8]"
)
@click.option("--top-k", type=int, help="Only so many likeliest tokens.  [default: 40; 0 is all]")
@click.option("--top-p", type=float, help="Only so much of the probability.  [default: 0.95]")
@click.option("--min-p", type=float, help="Only so near the likeliest.  [default: 0.05]")
@click.option("--repeat-penalty", type=float, help="Against repetition.  [default: 1, none]")
@click.option(
    "--seed",
    type=click.IntRange(-1, RANDOM_SEED),
    default=-1,
    callback=_seed,
    help="The same seed, the same answer; -1 is another one every time.",
)
def chat(
    model: Path,
    prompt: str | None,
    system: str,
    wishes: dict[str, Any],
    vram: int | None,
    rpc: tuple[str, ...],
    mmap: bool,
    n_threads: int | None,
    max_tokens: int | None,
    **sampling: float | None,
) -> None:
    """Talk with MODEL, a GGUF file: at a terminal, or one answer with -p or from a pipe.

    Answers go to standard output, all else to standard error. The sampling defaults are the
    model file's own where it holds any. Ctrl-C stops the answer.
    """
    screen = ui_chat.Screen()
    header = read_header(model)
    settings = sampling_for(header.metadata, sampling)
    piped = ui_chat.piped_text(screen, has_prompt=prompt is not None)
    question = "\n\n".join(filter(None, (piped, ui_chat.clean(prompt or ""))))
    is_dialogue = prompt is None and ui_chat.has_keyboard()
    if not is_dialogue and not question.strip():
        raise click.UsageError("there is nothing to answer: give -p TEXT, or text on a pipe")

    options = LoadOptions(**wishes, n_threads=n_threads, mmap=mmap)
    machine = this_machine(rpc)
    if vram is not None:
        machine = with_vram(machine, vram)
    stop = threading.Event()
    with ExitStack() as resources:
        template = Template(stored_template(header), special_tokens(header))
        resources.enter_context(template)
        with ui_chat.hearing_ctrl_c(stop), screen.loading(model.name) as show_progress:
            loaded = Engine(
                header,
                options,
                machine=machine,
                stop=stop,
                on_progress=show_progress,
                on_notice=screen.notice,
            )
        resources.enter_context(loaded)
        if template.is_fallback:
            screen.notice("the file holds no chat template: talking ChatML")
        talk = Chat(loaded, template, settings, system=ui_chat.clean(system), max_tokens=max_tokens)
        if is_dialogue:
            screen.notice(f"{model.name}, context {loaded.n_ctx}; /help lists the commands")
            ui_chat.talk(talk, screen, stop)
        else:
            ui_chat.answer_once(talk, screen, stop, question)
