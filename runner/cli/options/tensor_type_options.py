"""The options about the types of single tensors, as one Overrides."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import find_type

from .completion import tensor_types as type_names
from .option_groups import Decorator, option, with_options


def _tensor_types(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Any], ...]:
    pairs = [value.rpartition("=") for value in values]
    if any(not pattern for pattern, _, _ in pairs):
        raise click.BadParameter("must be REGEX=TYPE, for example ffn_down=Q6_K")
    return tuple((pattern, find_type(name)) for pattern, _, name in pairs)


def type_options(group: str) -> Decorator:
    """The options; those about single tensors reach the command as the argument `overrides`."""
    options: list[Decorator] = [
        option(
            "--tensor-type",
            "tensor_types",
            group=group,
            metavar="REGEX=TYPE",
            multiple=True,
            callback=_tensor_types,
            help="Type of the tensors whose name matches, as in ffn_down=Q6_K. Repeatable.",
        ),
        option(
            "--token-embedding-type",
            group=group,
            metavar="TYPE",
            show_default="the quant's",
            shell_complete=type_names,
            help="Type of token_embd.weight.",
        ),
        option(
            "--output-tensor-type",
            group=group,
            metavar="TYPE",
            show_default="the quant's",
            shell_complete=type_names,
            help="Type of output.weight.",
        ),
        option(
            "--leave-output-tensor",
            group=group,
            is_flag=True,
            help="Do not quantize output.weight.",
        ),
        option(
            "--pure",
            group=group,
            is_flag=True,
            help="Quantize all tensors to the same type, without the quant's exceptions.",
        ),
        option(
            "--strict-types",
            group=group,
            is_flag=True,
            help="Fail if a tensor does not fit its type, instead of falling back to another.",
        ),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_overrides(
            *,
            tensor_types: tuple[tuple[str, Any], ...],
            token_embedding_type: str | None,
            output_tensor_type: str | None,
            pure: bool,
            leave_output_tensor: bool,
            **others: Any,
        ) -> Any:
            overrides = Overrides(
                tensor_types,
                find_type(token_embedding_type) if token_embedding_type else None,
                find_type(output_tensor_type) if output_tensor_type else None,
                pure,
                leave_output_tensor,
            )
            return command(overrides=overrides, **others)

        return with_options(options, with_overrides)

    return decorate
