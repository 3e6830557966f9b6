"""What the verbs that read recipes do before its rows are read: make the router."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.merge.source import MergedSource
from franken_gguf.quantize.merge.vocabulary import vocabulary_notices
from franken_gguf.quantize.presets import find_preset
from franken_gguf.quantize.source import Source
from franken_gguf.runner.devices import cores
from franken_gguf.runner.hidden_states import hidden_states
from franken_gguf.runner.loading import LoadOptions
from franken_gguf.runner.ui_convert import say

BASE_TYPE = "Q8_0"

base_type_option = click.option(
    "--base-type",
    metavar="TYPE",
    default=BASE_TYPE,
    show_default=True,
    help="What a recipe's base model runs in, for gate_mode hidden.",
)


def route(
    source: Source,
    folder: Path,
    notices: Console,
    *,
    base_type: str = BASE_TYPE,
    threads: int | None = None,
) -> None:
    """Give a recipe its router, by running the base model where its mode asks for it.

    The base model is in `folder` meanwhile; `threads` convert and run it. `notices` is told what
    the user may not have meant. Other sources are left as they are.
    """
    if not isinstance(source, MergedSource):
        return
    recipe = source.recipe
    for line in vocabulary_notices(recipe.base.model, [one.source.model for one in recipe.experts]):
        say(notices, line)
    if prompts := source.prompts():
        preset = find_preset(base_type)
        with notices.status(f"running the base model in {preset.name}") as status:
            source.route(
                hidden_states(
                    source.base_source(),
                    prompts,
                    preset,
                    folder,
                    of_routers=source.wants_router_inputs,
                    processes=threads or cores(),
                    options=LoadOptions(n_threads=threads),
                    report=lambda done: status.update(f"prompt {done} of {len(prompts)}"),
                )
            )
    if source.alike:
        say(
            notices,
            f"in {len(source.alike)} of {source.model.layers} layers the router's rows are much "
            "alike: some experts may hardly be used; let the prompts differ more",
        )
