"""llama.cpp's options for RoPE scaling, for every verb that loads or plans a model."""

from __future__ import annotations

import click

from franken_gguf.runner.planning.rope import ROPE_SCALINGS

from .completion import offering
from .option_groups import Decorator, option

_GROUP = "Context beyond training"
_FACTORS = {
    "rope_scale": "Make the context N times as long as the trained one.",
    "rope_freq_base": "RoPE's base frequency; a higher one is NTK-aware scaling.",
    "rope_freq_scale": "RoPE's frequency scale; F is --rope-scale 1/F.",
    "yarn_ext_factor": "YaRN's extrapolation mix; 0 is interpolation alone.",
    "yarn_attn_factor": "YaRN's scale of the attention's magnitude.",
    "yarn_beta_slow": "YaRN's high correction dimension, alpha.",
    "yarn_beta_fast": "YaRN's low correction dimension, beta.",
}


def rope_options() -> tuple[Decorator, ...]:
    """--rope-scaling and the others, whose values are the fields of `Rope`."""
    return (
        option(
            "--rope-scaling",
            group=_GROUP,
            metavar="TYPE",
            show_default="the model's, or yarn if -c is beyond its training",
            shell_complete=offering(lambda: ROPE_SCALINGS),
            help=f"How RoPE is scaled: {', '.join(ROPE_SCALINGS)}.",
        ),
        option(
            "--yarn-orig-ctx",
            group=_GROUP,
            type=click.IntRange(min=1),
            metavar="N",
            show_default="the model's",
            help="Context length in tokens that the model was trained for.",
        ),
        *(
            option(
                f"--{name.replace('_', '-')}",
                group=_GROUP,
                type=float,
                metavar="N",
                show_default="the model's",
                help=sentence,
            )
            for name, sentence in _FACTORS.items()
        ),
    )
