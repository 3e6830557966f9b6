"""The options that decide how tokens are drawn, in llama.cpp's spelling."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from franken_gguf.runner.engine import banned
from franken_gguf.runner.engine.sampling import (
    RANDOM_SEED,
    SAMPLERS,
    SamplingError,
    breakers,
    sampler_names,
    token_bias,
)

from .parameters import FILE

_MAX_FILE_BYTES = 1 << 20


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` these options.

    It gets the settings together as the dict `sampling`, None for no wish, and `preset` and `bans`.
    """

    @wraps(command)
    def with_sampling(**values: Any) -> Any:
        sampling = {name: values.pop(name) for name in _SETTINGS}
        if grammar_file := values.pop("grammar_file"):
            sampling["grammar"] = _text(grammar_file)
        bans = [*values.pop("bans")]
        for path in values.pop("ban_files"):
            bans += banned.lines(_text(path))
        return command(sampling=sampling, bans=tuple(bans), **values)

    decorated: Callable[..., Any] = with_sampling
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise SamplingError(f"{path}: is larger than {_MAX_FILE_BYTES >> 10} KiB")
    return data.decode(errors="replace")


def _seed(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    return RANDOM_SEED if value is not None and value < 0 else value


def _named(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else sampler_names(value)


def _biases(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return tuple(map(token_bias, values)) or None


def _breakers(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return breakers(values) if values else None


_NUMBERS: tuple[tuple[str, type, str, str], ...] = (
    ("--temp,--temperature", float, "temperature", "0 takes the likeliest token.  [default: 0.8]"),
    ("--dynatemp-range", float, "dynatemp_range", "Warmer by so much where the model is unsure."),
    ("--dynatemp-exp", float, "dynatemp_exponent", "How entropy becomes warmth.  [default: 1]"),
    ("--top-k", int, "top_k", "Only so many likeliest tokens.  [default: 40; 0 is all]"),
    ("--top-p", float, "top_p", "Only so much of the probability.  [default: 0.95]"),
    ("--min-p", float, "min_p", "Only so near the likeliest.  [default: 0.05]"),
    ("--typical,--typical-p", float, "typical_p", "Only about as surprising as expected."),
    ("--top-nsigma,--top-n-sigma", float, "top_n_sigma", "Only so many deviations off the top."),
    ("--xtc-probability", float, "xtc_probability", "How often the likeliest are left out."),
    ("--xtc-threshold", float, "xtc_threshold", "What counts as likely then.  [default: 0.1]"),
    ("--dry-multiplier", float, "dry_multiplier", "Against repeated passages; 0.8 is usual."),
    ("--dry-base", float, "dry_base", "How it grows with their length.  [default: 1.75]"),
    ("--dry-allowed-length", int, "dry_allowed_length", "May be repeated freely.  [default: 2]"),
    ("--dry-penalty-last-n", int, "dry_penalty_last_n", "Tokens it looks at.  [default: -1, all]"),
    ("--repeat-penalty", float, "repeat_penalty", "Against repetition.  [default: 1, none]"),
    ("--repeat-last-n", int, "repeat_last_n", "Tokens that counts for.  [default: 64]"),
    ("--presence-penalty", float, "presence_penalty", "Against what was said.  [default: 0]"),
    ("--frequency-penalty", float, "frequency_penalty", "The same, each time.  [default: 0]"),
    ("--mirostat", int, "mirostat", "1 or 2: that Mirostat instead of the others."),
    ("--mirostat-ent", float, "mirostat_tau", "Its target surprise.  [default: 5]"),
    ("--mirostat-lr", float, "mirostat_eta", "Its learning rate.  [default: 0.1]"),
)

_OPTIONS = (
    click.option(
        "--preset", metavar="NAME", help="Named settings: story, precise, wild, or your own."
    ),
    *(
        click.option(*names.split(","), field, type=kind, metavar="N", help=text)
        for names, kind, field, text in _NUMBERS
    ),
    click.option(
        "--dry-sequence-breaker",
        "dry_sequence_breakers",
        metavar="TEXT",
        multiple=True,
        callback=_breakers,
        help="Over it no repetition goes; none is none.",
    ),
    click.option(
        "-l",
        "--logit-bias",
        "logit_bias",
        metavar="ID+N",
        multiple=True,
        callback=_biases,
        help="Make a token likelier, or less so: 15043-1.",
    ),
    click.option("--grammar", metavar="GBNF", help="The answer follows this grammar."),
    click.option("--grammar-file", type=FILE, metavar="FILE", help="The same from a file."),
    click.option(
        "--samplers",
        metavar="A;B",
        callback=_named,
        help=f"Which, in which order.  [default: {';'.join(SAMPLERS)}]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(-1, RANDOM_SEED),
        metavar="N",
        callback=_seed,
        help="The same seed, the same answer; -1 is another one every time.",
    ),
    click.option(
        "--ban",
        "bans",
        metavar="PHRASE",
        multiple=True,
        help="Never say this; between slashes it is a regular expression.",
    ),
    click.option(
        "--ban-file",
        "ban_files",
        type=FILE,
        metavar="FILE",
        multiple=True,
        help="Such phrases, one a line.",
    ),
)
_SETTINGS = (
    *(field for _, _, field, _ in _NUMBERS),
    "dry_sequence_breakers",
    "logit_bias",
    "grammar",
    "samplers",
    "seed",
)
