"""The sampling options, spelled as in llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from franken_gguf.runner.sampling import ban_list
from franken_gguf.runner.sampling.settings import (
    FILE_KEYS,
    RANDOM_SEED,
    SAMPLERS,
    Sampling,
    SamplingError,
    breakers,
    sampler_names,
    token_bias,
)

from .chat_arguments import SamplingArguments
from .completion import sampling_presets
from .option_groups import Decorator, option, with_options
from .types import FILE

_MAX_FILE_BYTES = 1 << 20
_DEFAULTS = Sampling()


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` these options; it gets their values as one argument, `sampling`."""

    @wraps(command)
    def with_sampling(**values: Any) -> Any:
        settings = {name: values.pop(name) for name in _SETTINGS}
        if grammar_file := values.pop("grammar_file"):
            settings["grammar"] = _text(grammar_file)
        bans = [*values.pop("bans")]
        for path in values.pop("ban_files"):
            bans += ban_list.lines(_text(path))
        given = {name: value for name, value in settings.items() if value is not None}
        sampling = SamplingArguments(given, values.pop("preset"), tuple(bans))
        return command(sampling=sampling, **values)

    return with_options(_OPTIONS, with_sampling)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise SamplingError(
            f"{path}: is larger than {_MAX_FILE_BYTES >> 10} KiB; give a smaller file"
        )
    return data.decode(errors="replace")


def _seed(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    return RANDOM_SEED if value is not None and value < 0 else value


def _named(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else sampler_names(value)


def _biases(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return tuple(map(token_bias, values)) or None


def _breakers(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return breakers(values) if values else None


_option = partial(option, group="Sampling")


def _number(names: str, field: str, text: str) -> Decorator:
    value = getattr(_DEFAULTS, field)
    default = f"the model file's, else {value:g}" if field in FILE_KEYS else f"{value:g}"
    return _option(
        *names.split(","), field, type=type(value), metavar="N", show_default=default, help=text
    )


# Names, the field of `Sampling`, and the help.
_NUMBERS = (
    (
        "--temp,--temperature",
        "temperature",
        "Temperature: higher is more varied; 0 always takes the most likely token.",
    ),
    (
        "--dynatemp-range",
        "dynatemp_range",
        "Dynamic temperature: vary it by up to N, lower where the model is sure; 0 is off.",
    ),
    ("--dynatemp-exp", "dynatemp_exponent", "Dynamic temperature: exponent of the entropy."),
    ("--top-k", "top_k", "Keep the N most likely tokens; 0 keeps all."),
    (
        "--top-p",
        "top_p",
        "Keep the most likely tokens that together reach this probability; 1 keeps all.",
    ),
    (
        "--min-p",
        "min_p",
        "Minimum probability relative to the most likely token; 0 keeps all.",
    ),
    (
        "--typical,--typical-p",
        "typical_p",
        "Locally typical sampling: the probability of the tokens kept; 1 is off.",
    ),
    (
        "--top-nsigma,--top-n-sigma",
        "top_n_sigma",
        "Keep tokens within N standard deviations of the highest logit; -1 is off.",
    ),
    (
        "--xtc-probability",
        "xtc_probability",
        "XTC: probability of removing the most likely tokens; 0 is off.",
    ),
    (
        "--xtc-threshold",
        "xtc_threshold",
        "XTC: probability from which tokens are removed, all but the least likely of them.",
    ),
    (
        "--dry-multiplier",
        "dry_multiplier",
        "DRY: strength of the penalty on repeated passages, commonly 0.8; 0 is off.",
    ),
    (
        "--dry-base",
        "dry_base",
        "DRY: base of the penalty, which grows exponentially with a passage's length.",
    ),
    (
        "--dry-allowed-length",
        "dry_allowed_length",
        "DRY: longest passage in tokens that may be repeated freely.",
    ),
    (
        "--dry-penalty-last-n",
        "dry_penalty_last_n",
        "DRY: number of last tokens searched for repeats; -1 is the context, 0 is off.",
    ),
    (
        "--repeat-penalty",
        "repeat_penalty",
        "Penalize recently used tokens by this factor; 1 is off.",
    ),
    (
        "--repeat-last-n",
        "repeat_last_n",
        "Number of last tokens that count as recent for the repeat, presence and frequency "
        "penalties; -1 is the context, 0 is off.",
    ),
    (
        "--presence-penalty",
        "presence_penalty",
        "Subtracted once from the logit of a recently used token; 0 is off.",
    ),
    (
        "--frequency-penalty",
        "frequency_penalty",
        "Subtracted for every recent use of a token; 0 is off.",
    ),
    (
        "--mirostat",
        "mirostat",
        "Mirostat 1 or 2 in place of top-k, top-p and the like; 0 is off.",
    ),
    ("--mirostat-ent", "mirostat_tau", "Mirostat: target entropy (tau) in bits."),
    ("--mirostat-lr", "mirostat_eta", "Mirostat: learning rate (eta)."),
)

_OPTIONS = (
    _option(
        "--preset",
        metavar="NAME",
        shell_complete=sampling_presets,
        help=(
            "Named sampling settings: story, precise, wild or your own. They replace the model "
            "file's; the options below replace theirs."
        ),
    ),
    *(_number(*row) for row in _NUMBERS),
    _option(
        "--dry-sequence-breaker",
        "dry_sequence_breakers",
        metavar="TEXT",
        multiple=True,
        callback=_breakers,
        show_default=" ".join(map(repr, _DEFAULTS.dry_sequence_breakers)),
        help="DRY: text that ends a repeated passage; 'none' for no such text. Repeatable.",
    ),
    _option(
        "-l",
        "--logit-bias",
        "logit_bias",
        metavar="ID+N",
        multiple=True,
        callback=_biases,
        help="Add to the logit of a token, as in 15043+1 or 15043-1. Repeatable.",
    ),
    _option("--grammar", metavar="GBNF", help="GBNF grammar that every answer follows."),
    _option("--grammar-file", type=FILE, metavar="FILE", help="Read that grammar from a file."),
    _option(
        "--samplers",
        metavar="A;B",
        callback=_named,
        show_default="; ".join(SAMPLERS),
        help="Samplers to use, in this order.",
    ),
    _option(
        "--seed",
        type=click.IntRange(-1, RANDOM_SEED),
        metavar="N",
        callback=_seed,
        show_default="-1",
        help="Random seed: the same seed gives the same answer; -1 is a new one every time.",
    ),
    _option(
        "--ban",
        "bans",
        metavar="PHRASE",
        multiple=True,
        help="Never write this phrase; /.../ is a regular expression. Repeatable.",
    ),
    _option(
        "--ban-file",
        "ban_files",
        type=FILE,
        metavar="FILE",
        multiple=True,
        help="Ban the phrases in this file, one per line. Repeatable.",
    ),
)
_SETTINGS = (
    *(field for _, field, _ in _NUMBERS),
    "dry_sequence_breakers",
    "logit_bias",
    "grammar",
    "samplers",
    "seed",
)
