"""The quants of a checkpoint: converted in one pass and kept for later comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.output_names import output_paths
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.compare.measure.workspace import digest


def quants(
    source: Source,
    presets: Sequence[Preset],
    cache: Path,
    convert: Callable[[list[Output]], None],
) -> list[Path]:
    """The file of each preset, in a folder named after a hash of the source and the plan.

    Missing files are written by `convert`. Raises what `plan_output` and `convert` raise.
    """
    paths = output_paths(source.name, presets, None)
    planned = [
        plan_output(source, path, preset) for path, preset in zip(paths, presets, strict=True)
    ]
    content = [(Path(path).name, nbytes, changed) for path, nbytes, changed in source.stamps]
    content.sort()
    files = [
        cache / "quants" / digest(content, output.shards[0].header) / path
        for output, path in zip(planned, paths, strict=True)
    ]
    missing = [
        plan_output(source, path, preset)
        for path, preset in zip(files, presets, strict=True)
        if not path.exists()
    ]
    for output in missing:
        output.path.parent.mkdir(parents=True, exist_ok=True)
    if missing:
        convert(missing)
    return files
