"""The command line: every verb's words, and nothing else."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.quantize.imatrix import read_imatrix
from franken_gguf.quantize.naming import output_paths
from franken_gguf.quantize.output import Output, plan_output
from franken_gguf.quantize.parity import check_parity
from franken_gguf.quantize.presets import find_preset, find_type
from franken_gguf.quantize.recipe import Overrides
from franken_gguf.quantize.source import Source, open_source

from . import ui_chat, ui_convert, ui_inspect
from .chat import Chat
from .engine import Engine, LoadOptions
from .inspect import summarize
from .prompt import Template, special_tokens, stored_template
from .sampling import RANDOM_SEED, sampling_for
from .terminal import printable
from .vocabulary import load_vocabulary

_FILE = click.Path(path_type=Path)


class _Verbs(click.Group):
    """Turns what a user can cause into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FrankenError as error:
            raise click.ClickException(printable(str(error))) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(printable(f"{where}{error.strerror or error}")) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="franken-gguf")
def main() -> None:
    """Merged mixture-of-experts checkpoints to GGUF, and a chat to run them."""


def _tensor_types(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Any], ...]:
    pairs = [value.rpartition("=") for value in values]
    if any(not pattern for pattern, _, _ in pairs):
        raise click.BadParameter("write it as REGEX=TYPE, for example ffn_down=Q6_K")
    return tuple((pattern, find_type(name)) for pattern, _, name in pairs)


@main.command()
@click.argument("source", type=_FILE)
@click.option(
    "-q",
    "types",
    metavar="TYPE",
    multiple=True,
    default=("Q4_K_M",),
    show_default=True,
    help="What to write; repeat it to write several files in one pass.",
)
@click.option("-o", "out", type=_FILE, help="A file (with one -q) or a folder.  [default: .]")
@click.option("--imatrix", "imatrix_file", type=_FILE, help="An importance matrix, GGUF or .dat.")
@click.option(
    "--tensor-type",
    "tensor_types",
    metavar="REGEX=TYPE",
    multiple=True,
    callback=_tensor_types,
    help="The type of the tensors whose name matches.",
)
@click.option("--token-embedding-type", metavar="TYPE", help="The type of token_embd.weight.")
@click.option("--output-tensor-type", metavar="TYPE", help="The type of output.weight.")
@click.option("--pure", is_flag=True, help="One type for all, no exceptions by layer.")
@click.option("--leave-output-tensor", is_flag=True, help="Do not quantize output.weight.")
@click.option("--strict-types", is_flag=True, help="Refuse types that need a fallback.")
@click.option("--allow-requantize", is_flag=True, help="Quantize again what is quantized.")
@click.option("--threads", type=click.IntRange(min=1), help="[default: all cores]")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    source: Path,
    types: tuple[str, ...],
    out: Path | None,
    imatrix_file: Path | None,
    tensor_types: tuple[tuple[str, Any], ...],
    token_embedding_type: str | None,
    output_tensor_type: str | None,
    pure: bool,
    leave_output_tensor: bool,
    strict_types: bool,
    allow_requantize: bool,
    threads: int | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write SOURCE as GGUF: a Hugging Face folder, or a GGUF file to quantize again.

    TYPE is one of F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0
    IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S (case ignored), as llama-quantize has them, or
    Q4_K_MOE, our own for mixtures of experts: of Q4_K_M's size, nearer to the model.
    """
    presets = list(dict.fromkeys(find_preset(name) for name in types))
    overrides = Overrides(
        tensor_types,
        find_type(token_embedding_type) if token_embedding_type else None,
        find_type(output_tensor_type) if output_tensor_type else None,
        pure,
        leave_output_tensor,
    )
    imatrix = read_imatrix(imatrix_file) if imatrix_file else None
    with closing(open_source(source)) as model:
        outputs = [
            plan_output(
                model,
                path,
                preset,
                overrides,
                imatrix,
                allow_requantize=allow_requantize,
                strict_types=strict_types,
            )
            for path, preset in zip(output_paths(model.name, presets, out), presets, strict=True)
        ]
        if imatrix:
            ui_convert.show_imatrix(Console(stderr=True), imatrix, outputs)
        if not dry_run:
            _write(model, outputs, source, threads, overwrite)
    if as_json:
        click.echo(json.dumps([_described(output) for output in outputs], indent=2))
    else:
        ui_convert.show_outputs(Console(), outputs)


def _write(
    model: Source, outputs: list[Output], source: Path, threads: int | None, overwrite: bool
) -> None:
    if len(outputs) > 1:
        outputs[0].path.parent.mkdir(parents=True, exist_ok=True)
    weights = pipeline.total_weights(model)
    progress = ui_convert.conversion_progress(Console(stderr=True), weights, len(model.tensors))
    with progress as report:
        pipeline.convert(
            model,
            outputs,
            threads=threads or _cores(),
            overwrite=overwrite,
            report=report,
            check=(lambda part: None) if model.is_gguf else partial(_check_tokens, source),
        )


def _check_tokens(folder: Path, part: Path) -> None:
    """Refuse a file whose tokenizer gives other ids than the checkpoint's own."""
    with load_vocabulary(part) as vocabulary:
        check_parity(folder, vocabulary.tokenize)


def _cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _described(output: Output) -> dict[str, Any]:
    return {
        "path": str(output.path),
        "type": output.preset.name,
        "bytes": output.nbytes,
        "bits_per_weight": output.bits_per_weight,
        "tensor_types": ui_convert.type_counts(output),
        "fallbacks": [
            {"tensor": t.source.name, "wanted": t.choice.wanted.name, "type": t.choice.type.name}
            for t in output.tensors
            if t.choice.fell_back
        ],
    }


@main.command()
@click.argument("model", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(model: Path, as_json: bool) -> None:
    """Say what a GGUF file holds, from its header alone."""
    summary = summarize(read_header(model))
    if as_json:
        click.echo(json.dumps(asdict(summary), indent=2))
    else:
        ui_inspect.show_summary(Console(), summary)


def _layers(ctx: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter("give a number of layers, -1 for all, or auto") from None


def _limit(ctx: click.Context, parameter: click.Parameter, value: int) -> int | None:
    if value == 0:
        raise click.BadParameter("an answer has at least one token; -1 is no limit")
    return None if value < 0 else value


def _seed(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    return RANDOM_SEED if value < 0 else value


@main.command()
@click.argument("model", type=_FILE)
@click.option(
    "-p", "--prompt", metavar="TEXT", help="Answer this and leave; piped text goes first."
)
@click.option("-sys", "--system-prompt", "system", metavar="TEXT", default="", help="System text.")
@click.option(
    "-c",
    "--ctx-size",
    "n_ctx",
    type=click.IntRange(min=0),
    metavar="N",
    help="Tokens of context; 0 is all that the model has.  [default: at most 4096]",
)
@click.option(
    "-ngl",
    "--gpu-layers",
    "n_gpu_layers",
    metavar="N|auto",
    default="auto",
    callback=_layers,
    help="Layers on the GPU; auto is all of them where llama.cpp was built for one.",
)
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
    n_ctx: int | None,
    n_gpu_layers: int | None,
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

    options = LoadOptions(n_ctx, n_gpu_layers, n_threads)
    stop = threading.Event()
    with ExitStack() as resources:
        template = Template(stored_template(header), special_tokens(header))
        resources.enter_context(template)
        with ui_chat.hearing_ctrl_c(stop), screen.loading(model.name) as show_progress:
            loaded = Engine(header, options, stop=stop, on_progress=show_progress)
        resources.enter_context(loaded)
        if template.is_fallback:
            screen.notice("the file holds no chat template: talking ChatML")
        talk = Chat(loaded, template, settings, system=ui_chat.clean(system), max_tokens=max_tokens)
        if is_dialogue:
            screen.notice(f"{model.name}, context {loaded.n_ctx}; /help lists the commands")
            ui_chat.talk(talk, screen, stop)
        else:
            ui_chat.answer_once(talk, screen, stop, question)
