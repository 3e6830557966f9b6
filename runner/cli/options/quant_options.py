"""The options about a source and how it is quantized that convert and fit share."""

from __future__ import annotations

from .option_groups import Decorator, option
from .types import FILE, THREADS


def imatrix_option(group: str) -> Decorator:
    """--imatrix as `imatrix_file`."""
    return option(
        "--imatrix",
        "imatrix_file",
        group=group,
        type=FILE,
        metavar="FILE",
        help="Importance matrix to quantize with, in GGUF or llama.cpp's older .dat.",
    )


def second_moments_option(group: str) -> Decorator:
    """--second-moments as `second_moments_file`."""
    return option(
        "--second-moments",
        "second_moments_file",
        group=group,
        type=FILE,
        metavar="FILE",
        help=(
            "Choose the codes of each row together, with the file that imatrix --second-moments "
            "writes: closer to the model at the same size, but not llama-quantize's bytes. Slower."
        ),
    )


def target_text_option(group: str) -> Decorator:
    """--target-text as `target_text`."""
    return option(
        "--target-text",
        group=group,
        type=FILE,
        metavar="FILE",
        show_default="built-in passages",
        help="Text to measure on, of the kind that the model is for.",
    )


def requantize_option(group: str) -> Decorator:
    """--allow-requantize as `allow_requantize`."""
    return option(
        "--allow-requantize",
        group=group,
        is_flag=True,
        help="Allow a source that is quantized already; this loses quality.",
    )


def workers_option(group: str) -> Decorator:
    """--threads as `threads`; None is one per core."""
    return option(
        "--threads",
        group=group,
        type=THREADS,
        metavar="N",
        show_default="one per core",
        help="Number of worker processes.",
    )
