"""The options about answers that chat and serve share."""

from __future__ import annotations

from pathlib import Path

import click

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.gguf_file.model_summary import summarize
from franken_gguf.quantize.merge.recipe_names import expert_names

from .option_groups import Decorator, option
from .types import FILE


def system_option(group: str, text: str) -> Decorator:
    """-sys as `system`, with the help `text`."""
    return option(
        "-sys",
        "--system-prompt",
        "system",
        group=group,
        metavar="TEXT",
        default="",
        show_default="none",
        help=text,
    )


def predict_option(group: str, text: str) -> Decorator:
    """-n as `max_tokens`, None for no limit, with the help `text`."""
    return option(
        "-n",
        "--predict",
        "max_tokens",
        group=group,
        type=click.IntRange(min=-1),
        metavar="N",
        default=-1,
        callback=_limit,
        help=text,
    )


def expert_names_option(group: str) -> Decorator:
    """--expert-names as `expert_names`, a tuple."""
    return option(
        "--expert-names",
        group=group,
        metavar="A,B|RECIPE",
        default="",
        show_default="their numbers",
        callback=_names,
        shell_complete=FILE.shell_complete,
        help="Names of the experts, or the merge recipe to take them from.",
    )


def check_expert_names(names: tuple[str, ...], header: Header) -> None:
    """Raise click.ClickException if there are `names`, but not one for each of the experts."""
    experts = summarize(header).experts
    if names and len(names) != experts:
        raise click.ClickException(
            f"--expert-names {','.join(names)}: has {len(names)} names, but {header.path} has "
            f"{experts} experts; give one for each, separated by commas"
        )


def _limit(ctx: click.Context, parameter: click.Parameter, value: int) -> int | None:
    if value == 0:
        raise click.BadParameter(
            "an answer has at least 1 token; give 1 or more, or -1 for no limit"
        )
    return None if value < 0 else value


def _names(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Names separated by commas, or those in a merge recipe."""
    if value.endswith((".yml", ".yaml")):
        return expert_names(Path(value))
    return tuple(name.strip() for name in value.split(",") if name.strip())
