"""`franken-gguf chat`: its options, as `ChatArguments` for runner/cli/chat_run.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
from click.core import ParameterSource

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli.options.answer_options import (
    check_expert_names,
    expert_names_option,
    predict_option,
    system_option,
)
from franken_gguf.runner.cli.options.chat_arguments import (
    ChatArguments,
    SamplingArguments,
    SessionArguments,
    StoryArguments,
)
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.placement_options import (
    MODEL_GROUP,
    placement_options,
    threads_option,
)
from franken_gguf.runner.cli.options.sampling_options import sampling_options
from franken_gguf.runner.cli.options.session_options import session_options
from franken_gguf.runner.cli.options.story_options import story_options
from franken_gguf.runner.cli.options.types import MODEL
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.sampling.settings import Sampling
from franken_gguf.runner.terminal.standard_input import clean, has_keyboard, piped_text

from .hub_names import hub_names

_OUTPUT_GROUP = "Prompt and output"


@click.command(cls=Command)
@click.argument("model", type=MODEL)
@option(
    "-p",
    "--prompt",
    group=_OUTPUT_GROUP,
    metavar="TEXT",
    help="Answer this and exit. Text piped in is put before it.",
)
@system_option(_OUTPUT_GROUP, "System prompt: instructions for the whole chat.")
@predict_option(_OUTPUT_GROUP, "Longest answer in tokens; -1 is no limit.")
@option(
    "--experts",
    group=_OUTPUT_GROUP,
    is_flag=True,
    help="Record which experts wrote what, for /experts. About 10 % slower.",
)
@expert_names_option(_OUTPUT_GROUP)
@placement_options()
@threads_option()
@sampling_options
@story_options
@session_options
@option(
    "--summarize",
    group="Session",
    is_flag=True,
    help="Let the model summarize turns that leave the context, and keep the summary in it.",
)
@hub_names(models=["model"], group=MODEL_GROUP)
def chat(
    model: Path,
    prompt: str | None,
    system: str,
    max_tokens: int | None,
    experts: bool,
    expert_names: tuple[str, ...],
    placement: PlacementOptions,
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    n_threads: int | None,
    sampling: SamplingArguments,
    story: StoryArguments,
    session: SessionArguments,
    summarize: bool,
) -> None:
    """Chat with a model, or get one answer.

    MODEL is a GGUF file, or its name on the Hugging Face Hub. At a terminal this is a chat with
    commands (/help lists them), saved after every turn. With -p, or with text piped in, it prints
    one answer and exits, and saves it only to a chat that --session, --continue or --import names.

    Answers go to standard output, everything else to standard error. Ctrl-C stops an answer.
    """
    _check_session(session)
    header = read_header(model)
    check_expert_names(expert_names, header)
    from franken_gguf.runner.ui.chat_screen import Screen  # noqa: PLC0415 - loads llama.cpp

    from .chat_run import run  # noqa: PLC0415 - loads llama.cpp

    screen = Screen()
    arguments = ChatArguments(
        header=header,
        question=_question(prompt, screen.notice),
        system=system,
        placement=placement,
        vram=vram,
        rpc=rpc,
        n_threads=n_threads,
        max_tokens=max_tokens,
        sampling=sampling,
        story=story,
        session=session,
        summarize=summarize,
        experts=experts,
        expert_names=expert_names,
        given=_given(sampling),
    )
    run(arguments, screen)


def _question(prompt: str | None, notice: Callable[[str], None]) -> str | None:
    """The one question to answer, piped text first; None for a chat at a terminal."""
    piped = piped_text(notice, has_prompt=prompt is not None)
    if prompt is None and has_keyboard():
        return None
    question = "\n\n".join(filter(None, (piped, clean(prompt or ""))))
    if not question.strip():
        raise click.UsageError("nothing to answer; give -p TEXT, or pipe text in")
    return question


def _given(sampling: SamplingArguments) -> frozenset[str]:
    """The settings that options give; a preset gives them all."""
    names = {*sampling.settings, *(field.name for field in fields(Sampling) if sampling.preset)}
    if sampling.bans:
        names.add("bans")
    source = click.get_current_context().get_parameter_source("max_tokens")
    if source is not ParameterSource.DEFAULT:
        names.add("max_tokens")
    return frozenset(names)


def _check_session(session: SessionArguments) -> None:
    saves = session.name or session.is_resumed or session.imported or session.keep_context
    if session.no_save and saves:
        raise click.UsageError(
            "--no-save cannot be combined with --session, --continue, --import or --keep-context"
        )
    if session.imported and session.is_resumed:
        raise click.UsageError(
            "--import starts a chat and --continue resumes one; give only one of them"
        )
