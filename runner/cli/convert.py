"""`franken-gguf convert`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.imatrix import read_imatrix
from franken_gguf.quantize.naming import output_paths
from franken_gguf.quantize.output import Output, plan_output
from franken_gguf.quantize.parity import check_parity
from franken_gguf.quantize.presets import find_preset, find_type
from franken_gguf.quantize.recipe import Overrides
from franken_gguf.quantize.source import Source, open_source
from franken_gguf.runner import ui_convert
from franken_gguf.runner.vocabulary import load_vocabulary

from .parameters import FILE


def _tensor_types(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Any], ...]:
    pairs = [value.rpartition("=") for value in values]
    if any(not pattern for pattern, _, _ in pairs):
        raise click.BadParameter("write it as REGEX=TYPE, for example ffn_down=Q6_K")
    return tuple((pattern, find_type(name)) for pattern, _, name in pairs)


@click.command()
@click.argument("source", type=FILE)
@click.option(
    "-q",
    "types",
    metavar="TYPE",
    multiple=True,
    default=("Q4_K_M",),
    show_default=True,
    help="What to write; repeat it to write several files in one pass.",
)
@click.option("-o", "out", type=FILE, help="A file (with one -q) or a folder.  [default: .]")
@click.option("--imatrix", "imatrix_file", type=FILE, help="An importance matrix, GGUF or .dat.")
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
