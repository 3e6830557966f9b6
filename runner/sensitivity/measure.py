"""Measures a model's tensors: the error of every type, and what an error of each tensor costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.workers import in_order
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.output.worker_memory import Share
from franken_gguf.quantize.target_size.code_gains import CodeGains, gaining_types
from franken_gguf.quantize.target_size.degraded import degraded
from franken_gguf.quantize.target_size.measurements import Measurements, save
from franken_gguf.quantize.target_size.type_errors import TypeErrors
from franken_gguf.quantize.target_size.type_menus import can_choose, possible_types, probe_type
from franken_gguf.quantize.tensor_types.second_moments import WeightMoments
from franken_gguf.quantize.tensor_types.type_presets import Type
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.loading import DEFAULTS, LoadOptions
from franken_gguf.runner.engine.model_weights import ModelWeights

from .degrading import DegradedModel

PASSAGE_TOKENS = 24
N_CTX = 512
_SAVE_SECONDS = 20.0


def measure_errors(
    source: Source,
    importances: Mapping[str, F32],
    measured: Measurements,
    share: Share,
    report: Callable[[float], None] = lambda _: None,
) -> None:
    """Add the errors that are missing in `measured`; `report` gets the fraction that is done."""
    types = [missing_types(t, importances, measured) for t in source.tensors]
    indices = [index for index, missing in enumerate(types) if missing]
    work = TypeErrors(source, importances, types)
    for done, errors in enumerate(in_order(work, indices, share.workers), 1):
        name = source.tensors[indices[done - 1]].name
        known = measured.errors.setdefault(name, {})
        known |= {kind.name: error for kind, error in errors.items()}
        report(done / len(indices))


def measure_gains(
    source: Source,
    importances: Mapping[str, F32],
    moments: Mapping[str, WeightMoments],
    measured: Measurements,
    share: Share,
    report: Callable[[float], None] = lambda _: None,
) -> None:
    """Add the gains of choosing codes that are missing; `report` gets the fraction that is done."""
    types = [
        gaining_types(possible_types(tensor, tensor.name in importances))
        if can_choose(tensor) and tensor.name in moments.keys() - measured.gains.keys()
        else ()
        for tensor in source.tensors
    ]
    indices = [index for index, some in enumerate(types) if some]
    work = CodeGains(source, importances, moments, types)
    for done, gains in enumerate(in_order(work, indices, share.workers), 1):
        name = source.tensors[indices[done - 1]].name
        measured.gains[name] = {kind.name: gain for kind, gain in gains.items()}
        report(done / len(indices))


def measure_divergences(
    model: DegradedModel,
    source: Source,
    importances: Mapping[str, F32],
    stored: Mapping[str, Type],
    measured: Measurements,
    file: Path,
    share: Share,
    report: Callable[[float], None] = lambda _: None,
) -> None:
    """Add the divergences that are missing in `measured`, which is saved to `file` at times."""
    types = {
        tensor.name: probe_type(tensor, measured.errors[tensor.name])
        for tensor in source.tensors
        if can_choose(tensor) and tensor.name not in measured.divergences
    }
    saved = time.monotonic()
    tensors = degraded(source, importances, types, stored, share)
    for done, (name, divergence) in enumerate(model.each_degraded(tensors), 1):
        measured.divergences[name] = divergence
        report(done / len(types))
        if time.monotonic() - saved > _SAVE_SECONDS:
            save(file, measured)
            saved = time.monotonic()
    save(file, measured)


def loaded(header: Header, options: LoadOptions = DEFAULTS) -> tuple[Engine, ModelWeights]:
    """The model with weights that can be replaced: read into memory, as they are stored."""
    weights = ModelWeights()
    options = replace(options, n_ctx=N_CTX, n_outputs=N_CTX, mmap=False, repack=False)
    return Engine(header, options, probe=weights), weights


def passages(engine: Engine, texts: Sequence[str]) -> list[list[int]]:
    """The first PASSAGE_TOKENS tokens of each text."""
    return [engine.vocabulary.prompt(text)[:PASSAGE_TOKENS] for text in texts]


def is_complete(source: Source, importances: Container[str], measured: Measurements) -> bool:
    """Whether nothing is missing."""
    return all(
        tensor.name in measured.divergences and not missing_types(tensor, importances, measured)
        for tensor in source.tensors
        if can_choose(tensor)
    )


def missing_types(
    tensor: SourceTensor, importances: Container[str], measured: Measurements
) -> tuple[Type, ...]:
    """The types whose errors are not known for the tensor; none if its type is not ours to choose.

    `importances`: the names of the tensors in the importance matrix.
    """
    if not can_choose(tensor):
        return ()
    known = measured.errors.get(tensor.name, {})
    possible = possible_types(tensor, tensor.name in importances)
    return tuple(kind for kind in possible if kind.name not in known)
