"""`franken-gguf compare --source`: the quants of a checkpoint or recipe, and its experts' names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.merge.merged_source import MergedSource
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import Output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.compare.quants import quants
from franken_gguf.runner.engine.llama_tokenizer_check import check_tokens
from franken_gguf.runner.ui import convert_screen
from franken_gguf.runner.ui.progress_bars import conversion_progress
from franken_gguf.runner.ui.progress_stats import ProgressStats

from .router_prep import route


def converted(
    path: Path, types: Sequence[str], cache: Path, threads: int, notices: Console
) -> tuple[list[Path], tuple[str, ...]]:
    """The file of each type, converted unless it is in the cache, and the experts' names, if known.

    Raises what opening and converting raise.
    """
    source = open_source(path)
    presets = list(dict.fromkeys(find_preset(name) for name in types))
    files = quants(source, presets, cache, partial(_convert, path, source, threads, notices))
    return files, expert_names(source)


def expert_names(source: Source) -> tuple[str, ...]:
    """The names of a recipe's experts: their adapters' or models'; empty for a checkpoint."""
    if not isinstance(source, MergedSource):
        return ()
    return tuple(expert.source.name for expert in source.recipe.experts)


def _convert(
    path: Path, source: Source, threads: int, notices: Console, outputs: list[Output]
) -> None:
    if source.tokenizer_folder:
        check_tokens(source.tokenizer_folder, source.metadata)
    route(source, outputs[0].path.parent, notices)
    stats = ProgressStats(source, outputs)
    with conversion_progress(notices, stats) as progress:
        pipeline.convert(
            source,
            outputs,
            threads=threads,
            report=progress,
            notify=partial(convert_screen.say, notices),
        )
    folder = outputs[0].path.parent.parent
    convert_screen.say(notices, f"kept the converted files in {folder} for later comparisons")
