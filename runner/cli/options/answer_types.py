"""Values of options about answers: the longest one, the names of experts."""

from __future__ import annotations

from pathlib import Path

import click

from franken_gguf.quantize.merge.recipe_file import expert_names


def answer_limit(ctx: click.Context, parameter: click.Parameter, value: int) -> int | None:
    """The longest answer in tokens; None for -1, no limit."""
    if value == 0:
        raise click.BadParameter(
            "an answer has at least 1 token; give 1 or more, or -1 for no limit"
        )
    return None if value < 0 else value


def expert_names_of(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Names separated by commas, or those in a merge recipe."""
    if value.endswith((".yml", ".yaml")):
        return expert_names(Path(value))
    return tuple(name.strip() for name in value.split(",") if name.strip())
