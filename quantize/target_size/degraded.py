"""Weights as they are after rounding to a coarse type: what a running model is tested with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.workers import in_order
from franken_gguf.quantize.output.jobs import Job, jobs
from franken_gguf.quantize.output.worker_memory import Share
from franken_gguf.quantize.tensor_types.type_presets import Type


@dataclass(frozen=True)
class _Rounding:
    """A worker for jobs of rows."""

    source: Source
    importances: Mapping[str, F32]
    types: Mapping[str, Type]
    stored: Mapping[str, Type]
    """The types of the results: those of the running model."""

    def __call__(self, job: Job) -> tuple[int, U8]:
        tensor = self.source.tensors[job.index]
        importance = self.importances.get(tensor.name)
        codec, stored = (
            FORMATS[self.types[tensor.name].name],
            FORMATS[self.stored[tensor.name].name],
        )
        rows = FORMATS[tensor.stored.name].dequantize(
            self.source.read(tensor, job.piece, job.start, job.stop)
        )
        blocks = codec.quantize(rows, None if importance is None else importance[job.matrix])
        return job.index, stored.quantize(codec.dequantize(blocks), None)


def degraded(
    source: Source,
    importances: Mapping[str, F32],
    types: Mapping[str, Type],
    stored: Mapping[str, Type],
    share: Share,
) -> Iterator[tuple[str, U8]]:
    """Each tensor of `types` rounded to its type: its name, and its bytes in its type of `stored`.

    In the source's order; `share` says on how many processes. Raises a FrankenError.
    """
    work = _Rounding(source, importances, types, stored)
    wanted = (job for job in jobs(source.tensors, share.job_weights) if _name(source, job) in types)
    for index, parts in groupby(in_order(work, wanted, share.workers), key=lambda part: part[0]):
        blocks = np.concatenate([rows.reshape(-1) for _, rows in parts])
        yield source.tensors[index].name, blocks


def _name(source: Source, job: Job) -> str:
    return source.tensors[job.index].name
