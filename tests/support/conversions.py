"""Conversions as the command does them, in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.output_names import output_paths
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import find_preset


def converted(
    source: Path,
    out: Path,
    types: Sequence[str],
    *,
    threads: int = 1,
    overrides: Overrides | None = None,
    imatrix: Imatrix | None = None,
    allow_requantize: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Convert as the command does; `out` is a folder."""
    out.mkdir(exist_ok=True)
    presets = [find_preset(name) for name in types]
    model = open_source(source)
    paths = output_paths(model.name, presets, str(out))
    outputs = [
        plan_output(model, path, preset, overrides, imatrix, allow_requantize=allow_requantize)
        for path, preset in zip(paths, presets, strict=True)
    ]
    convert(model, outputs, threads=threads, overwrite=overwrite)
    assert [path.stat().st_size for path in paths] == [output.nbytes for output in outputs]
    return paths


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
